"""What the HTTP API takes and gives, as both its sides see it: see cloud.schema.

Times are seconds since 1970 (UTC).
"""

from cloud.shapes.deployments import (
    Capture,
    Deployment,
    DeploymentDetail,
    DeviceProgress,
    NewDeployment,
    Overview,
)
from cloud.shapes.devices import (
    BrokerAddress,
    Device,
    Enrol,
    Enrolled,
    LabelChanges,
    ModuleState,
    NewToken,
    Running,
    Token,
)
from cloud.shapes.history import Event, Health
from cloud.shapes.models import BlobStored, Model, Registered, Version
from cloud.shapes.telemetry import ModelStats, Record, VersionStats

__all__ = [
    "BlobStored",
    "BrokerAddress",
    "Capture",
    "Deployment",
    "DeploymentDetail",
    "Device",
    "DeviceProgress",
    "Enrol",
    "Enrolled",
    "Event",
    "Health",
    "LabelChanges",
    "Model",
    "ModelStats",
    "ModuleState",
    "NewDeployment",
    "NewToken",
    "Overview",
    "Record",
    "Registered",
    "Running",
    "Token",
    "Version",
    "VersionStats",
]
