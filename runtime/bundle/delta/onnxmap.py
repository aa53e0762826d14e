"""Where the tensors of an ONNX file lie: in the file itself, or in the files beside it.

Field numbers are those of onnx.proto. Tensors written as variable-length numbers or as text have no
place where each element has a fixed width; they stay part of the bytes between.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod

from runtime.bundle.delta.plan import ElementType, TensorExtent
from runtime.bundle.protobuf import LENGTH, VARINT, Field, OddError, Walker

TYPES = {
    1: ElementType.FP32, 2: ElementType.INT8, 3: ElementType.INT8, 4: ElementType.INT16,
    5: ElementType.INT16, 6: ElementType.INT32, 7: ElementType.INT64, 9: ElementType.BYTES,
    10: ElementType.FP16, 11: ElementType.FP64, 12: ElementType.INT32, 13: ElementType.INT64,
    14: ElementType.FP32, 15: ElementType.FP64, 16: ElementType.BF16, 17: ElementType.INT8,
    18: ElementType.INT8, 19: ElementType.INT8, 20: ElementType.INT8, 21: ElementType.BYTES,
    22: ElementType.BYTES, 23: ElementType.BYTES,
}  # fmt: skip
"""TensorProto.DataType to what its bytes are; complex numbers are two floats."""
MAX_DIMS = 64

_MODEL_IR_VERSION, _MODEL_GRAPH, _MODEL_FUNCTIONS = 1, 7, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _FUNCTION_NODE = 1, 5, 7
_NODE_OUTPUT, _NODE_ATTRIBUTE = 2, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_T, _ATTRIBUTE_G = 1, 5, 6
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 10, 11
_ATTRIBUTE_NUMBERS = {7, 8, 9}
_DIMS, _DATA_TYPE, _FLOAT_DATA, _NAME, _RAW_DATA, _DOUBLE_DATA = 1, 2, 4, 8, 9, 10
_EXTERNAL_DATA, _DATA_LOCATION, _EXTERNAL = 13, 14, 1


@dataclass(frozen=True)
class OnnxMap:
    """The tensors of an ONNX file, each list in the order of places."""

    inside: tuple[TensorExtent, ...]
    outside: dict[str, tuple[TensorExtent, ...]]
    """By location, as the file names it: relative to its own directory, and not to be trusted.

    A length of 0 says: to the end of that file, or as long as the shape says.
    """


def read(data: memoryview) -> OnnxMap | None:
    """Return where the tensors lie; None if this is no ONNX file that we can follow."""
    reader = _Reader(Walker(data))
    try:
        if not reader.model(len(data)):
            return None
    except OddError:
        return None
    return OnnxMap(
        tuple(sorted(reader.inside, key=lambda extent: extent.offset)),
        {
            location: tuple(sorted(extents, key=lambda extent: extent.offset))
            for location, extents in reader.outside.items()
        },
    )


@dataclass
class _Tensor:
    """What a TensorProto says of itself."""

    dims: list[int] = field(default_factory=list)
    code: int = 0
    name: str = ""
    raw: list[tuple[int, int, int]] = field(default_factory=list)
    """Code of the elements, start, end."""
    external: dict[str, str] = field(default_factory=dict)
    is_external: bool = False


@dataclass
class _Reader:
    walker: Walker
    inside: list[TensorExtent] = field(default_factory=list)
    outside: dict[str, list[TensorExtent]] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)

    def model(self, size: int) -> bool:
        """Read the whole file; return if it has what every ONNX model has."""
        has_version = has_graph = False
        for found in self.walker.fields(0, size):
            has_version |= found.number == _MODEL_IR_VERSION and found.kind == VARINT
            if found.number == _MODEL_GRAPH and found.kind == LENGTH:
                has_graph = True
                self._graph(found, "", 1)
            elif found.number == _MODEL_FUNCTIONS and found.kind == LENGTH:
                for inner in self._messages(found, {_FUNCTION_NODE}, 1):
                    self._node(inner, "", 2)
        return has_version and has_graph

    def _messages(self, place: Field, numbers: set[int], depth: int) -> Iterator[Field]:
        for found in self.walker.fields(place.start, place.end, depth=depth):
            if found.kind == LENGTH and found.number in numbers:
                yield found

    def _graph(self, place: Field, prefix: str, depth: int) -> None:
        for found in self._messages(place, {_GRAPH_NODE, _GRAPH_INITIALIZER}, depth):
            if found.number == _GRAPH_NODE:
                self._node(found, prefix, depth + 1)
            else:
                self._tensor(found, prefix, depth + 1)

    def _node(self, place: Field, prefix: str, depth: int) -> None:
        """Follow the attributes: constants and the graphs of If, Loop and Scan."""
        output = ""
        for found in self._messages(place, {_NODE_OUTPUT, _NODE_ATTRIBUTE}, depth):
            if found.number == _NODE_OUTPUT:
                output = output or self.walker.text(found)
            else:
                self._attribute(found, f"{prefix}{output}/", depth + 1)

    def _attribute(self, place: Field, prefix: str, depth: int) -> None:
        name = ""
        for found in self.walker.fields(place.start, place.end, depth=depth):
            if found.number in _ATTRIBUTE_NUMBERS:
                return  # lists of numbers, perhaps millions of fields: no tensor comes behind
            if found.kind != LENGTH:
                continue
            if found.number == _ATTRIBUTE_NAME:
                name = self.walker.text(found)
            elif found.number in {_ATTRIBUTE_T, _ATTRIBUTE_TENSORS}:
                self._tensor(found, f"{prefix}{name}/", depth + 1)
            elif found.number in {_ATTRIBUTE_G, _ATTRIBUTE_GRAPHS}:
                self._graph(found, f"{prefix}{name}/", depth + 1)

    def _tensor(self, place: Field, prefix: str, depth: int) -> None:
        tensor = _Tensor()
        for found in self.walker.fields(place.start, place.end, depth=depth):
            self._read(found, tensor, depth)
        name = self._unique(prefix + tensor.name)
        if tensor.is_external:
            self._outside(tensor, name)
        elif len(tensor.raw) == 1:
            code, start, end = tensor.raw[0]
            extent = _extent(name, code or tensor.code, tensor.dims, start, end - start)
            if extent is not None:
                self.inside.append(extent)

    def _read(self, found: Field, tensor: _Tensor, depth: int) -> None:
        number, is_bytes = found.number, found.kind == LENGTH
        if number == _DIMS and found.kind == VARINT:
            tensor.dims.append(found.value)
        elif number == _DIMS and is_bytes:
            tensor.dims += self._packed(found)
        elif number == _DATA_TYPE and found.kind == VARINT:
            tensor.code = found.value
        elif number == _NAME and is_bytes:
            tensor.name = self.walker.text(found)
        elif number == _DATA_LOCATION and found.kind == VARINT:
            tensor.is_external = found.value == _EXTERNAL
        elif number == _EXTERNAL_DATA and is_bytes:
            pair = [self.walker.text(part) for part in self._messages(found, {1, 2}, depth + 1)]
            tensor.external.update([(pair[0], pair[-1])] if pair else [])
        elif number in {_RAW_DATA, _FLOAT_DATA, _DOUBLE_DATA} and is_bytes:
            code = {_RAW_DATA: 0, _FLOAT_DATA: 1, _DOUBLE_DATA: 11}[number]
            tensor.raw.append((code, found.start, found.end))
        if len(tensor.dims) > MAX_DIMS:
            raise OddError("more dimensions than a tensor has")

    def _packed(self, place: Field) -> list[int]:
        at = place.start
        values: list[int] = []
        while at < place.end and len(values) <= MAX_DIMS:
            value, at = self.walker.varint(at, place.end)
            values.append(value)
        return values

    def _outside(self, tensor: _Tensor, name: str) -> None:
        """Note a tensor in another file."""
        location = tensor.external.get("location", "")
        offset, length = (_number(tensor.external.get(key, "0")) for key in ("offset", "length"))
        width = TYPES.get(tensor.code, ElementType.BYTES).width
        length = length or prod(tensor.dims) * width
        extent = _extent(name, tensor.code, tensor.dims, offset, length)
        if location and extent is not None:
            self.outside.setdefault(location, []).append(extent)

    def _unique(self, name: str) -> str:
        """Return a name that no other tensor of the file has."""
        seen = self.names.get(name, 0)
        self.names[name] = seen + 1
        return f"{name}#{seen + 1}" if seen else name


def _extent(name: str, code: int, dims: list[int], offset: int, length: int) -> TensorExtent | None:
    kind = TYPES.get(code)
    if kind is None or length % kind.width:
        return None
    shape = tuple(dims)
    if prod(shape) * kind.width != length:
        shape = (length // kind.width,)  # complex and four-bit types; or a shape that is wrong
    return TensorExtent(name, kind, shape, offset, length)


def _number(text: str) -> int:
    digits = 19  # of the largest 64-bit number
    if not (text.isascii() and text.isdecimal() and len(text) <= digits):
        raise OddError("external data at no number")
    return int(text)
