"""The messages of health.proto. Made by scripts/generate_protos.py: do not edit."""

from google.protobuf import descriptor_pool, message_factory

DESCRIPTOR = descriptor_pool.DescriptorPool().AddSerializedFile(
    b'\n\x0chealth.proto\x12\x0egrpc.health.v1"%\n\x12HealthCheckRequest\x12\x0f\n\x07service\x18'
    b'\x01 \x01(\t"\xa9\x01\n\x13HealthCheckResponse\x12A\n\x06status\x18\x01 \x01(\x0e21.grpc.heal'
    b'th.v1.HealthCheckResponse.ServingStatus"O\n\rServingStatus\x12\x0b\n\x07UNKNOWN\x10\x00\x12'
    b'\x0b\n\x07SERVING\x10\x01\x12\x0f\n\x0bNOT_SERVING\x10\x02\x12\x13\n\x0fSERVICE_UNKNOWN\x10'
    b'\x032Z\n\x06Health\x12P\n\x05Check\x12".grpc.health.v1.HealthCheckRequest\x1a#.grpc.health.v1'
    b'.HealthCheckResponseb\x06proto3'
)
_MESSAGES = DESCRIPTOR.message_types_by_name
HealthCheckRequest = message_factory.GetMessageClass(_MESSAGES["HealthCheckRequest"])
HealthCheckResponse = message_factory.GetMessageClass(_MESSAGES["HealthCheckResponse"])
