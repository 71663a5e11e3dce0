"""From the records of a pickle to values: PyTorch's tensors, NumPy's arrays, and Python's own containers."""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
from jaxtyping import Shaped, UInt8

from jaxseg.mmseg.unpickle import Damage, Record, check_key

# PyTorch's names of dtypes; those that NumPy lacks come from ml_dtypes.
NUMBERS = ("float16", "float32", "float64", "complex64", "complex128", "bool", "int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
NARROW = ("bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")
DTYPES = {name: np.dtype(name) for name in (*NUMBERS, *UNSIGNED)}
DTYPES |= {name: np.dtype(getattr(ml_dtypes, name)) for name in NARROW}
STORAGES = {
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "BoolStorage": "bool",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "ByteStorage": "uint8",
    "UntypedStorage": "uint8",
}
MAX_DEPTH = 200
MAX_ELEMENTS = 4_000_000
MAX_DIMENSIONS = 64


@dataclasses.dataclass(frozen=True)
class StorageId:
    """A storage as the pickle refers to it.

    Attributes:
        key: Its name in the file.
        dtype: Of its elements.
        numel: Number of elements.
        view: First element and number of elements of the part that is meant; None for all.
    """

    key: str
    dtype: np.dtype
    numel: int
    view: tuple[int, int] | None = None

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.numel * self.dtype.itemsize


def persistent_load(saved_id: Any) -> StorageId | Record:
    """What a persistent id of PyTorch's means: a storage, or (in old files) a class with its source code.

    Raises:
        Damage: It is no persistent id of PyTorch's, or its dtype is not supported.
    """
    match saved_id:
        case ("storage", Record() as kind, str(key) | int(key), _, int(numel)):
            view = None
        case ("storage", Record() as kind, str(key) | int(key), _, int(numel), view):
            pass
        case ("module", Record() as kind, *_):
            return kind
        case _:
            raise Damage("its pickle has a reference that is not PyTorch's")
    if kind.name not in STORAGES:
        raise Damage(f"it has a {kind.module}.{kind.name}; quantised and other special tensors are not supported")
    match view:
        case None:
            part = None
        case (_, int(first), int(count)) if first >= 0 and count >= 0 and first + count <= numel:
            part = (first, count)
        case _:
            raise Damage(f"the view of its storage {str(key)[:40]} is wrong")
    if not 0 <= numel < 1 << 56:
        raise Damage(f"its storage {str(key)[:40]} has an impossible size")
    return StorageId(str(key), DTYPES[STORAGES[kind.name]], numel, part)


class Builder:
    """Gives the records that are known a meaning. All others stay as they are.

    Args:
        read_storage: The bytes of a storage, checked to be as many as it says.
        allowance: Bytes that arrays may take beyond what the file has: by values that share their memory (expanded
            tensors), or by the bytes' order. A small file cannot claim large arrays.
        swap: The storages have the other byte order.
    """

    def __init__(
        self, read_storage: Callable[[StorageId], UInt8[np.ndarray, " bytes"]], allowance: int, swap: bool = False
    ):
        self.read_storage = read_storage
        self.allowance = allowance
        self.swap = swap
        self.elements = 0
        self.depth = 0
        self.memo: dict[int, Any] = {}
        self.encoded: dict[tuple[int, str], bytes] = {}

    def build(self, node: Any) -> Any:
        """The value of a node of `unpickle`'s tree. Nodes that are shared, or hold themselves, stay so.

        Raises:
            Damage: A tensor is wrong, or the tree is too deep or too large.
        """
        if isinstance(node, (str, bytes, int, float)) or node is None:
            return node
        if id(node) in self.memo:
            return self.memo[id(node)]
        if self.depth == MAX_DEPTH:
            raise Damage(f"its values are nested more than {MAX_DEPTH} deep")
        self.depth += 1
        match node:
            case dict():
                self._fill_dict(self._remember(node, {}), node.items())
            case list():
                self._remember(node, []).extend(map(self.build, self._counted(node)))
            case tuple():
                self._remember(node, tuple(map(self.build, self._counted(node))))
            case StorageId():
                self._remember(node, self._view(node, 0, (self._length(node),), (1,)))
            case Record():
                convert = CONVERSIONS.get((node.module, node.name)) if node.args is not None else None
                self._remember(node, convert(self, node)) if convert else self._build_record(node)
            case _:
                self._remember(node, node)
        self.depth -= 1
        return self.memo[id(node)]

    def _remember(self, node: Any, value: Any) -> Any:
        self.memo[id(node)] = value
        return value

    def _counted(self, nodes: Any) -> Any:
        # Records may share a long list and each ask for a copy of it.
        self.elements += len(nodes)
        if self.elements > MAX_ELEMENTS:
            raise Damage(f"its values have over {MAX_ELEMENTS} elements")
        return nodes

    def _fill_dict(self, target: dict, items: Any) -> dict:
        for key, value in self._counted(items):
            built = key
            if isinstance(key, Record):
                built = self.build(key)
                check_key(built)
            target[built] = self.build(value)
        return target

    def _build_record(self, node: Record) -> None:
        """Stays a record, of what its parts mean."""
        unknown_reconstruction = node.module == "torch._utils" and node.name.startswith("_rebuild_")
        if node.args is not None and unknown_reconstruction:
            kind = node.name.removeprefix("_rebuild_")
            raise Damage(f"it has a tensor of a kind that is not supported ({kind}); save it as a dense tensor")
        record = self._remember(node, Record(node.module, node.name))
        record.args, record.kwargs, record.state = map(self.build, (node.args, node.kwargs, node.state))
        record.entries = [self.build(entry) for entry in self._counted(node.entries)]
        record.items = [(self.build(key), self.build(value)) for key, value in self._counted(node.items)]

    # PyTorch.

    def _length(self, storage: StorageId) -> int:
        return storage.view[1] if storage.view else storage.numel

    def _tensor(self, node: Record) -> Shaped[np.ndarray, "..."]:
        """_rebuild_tensor(storage, offset, size, stride); the second version adds gradients, hooks, metadata."""
        array = self._view(*node.args[:4])
        metadata = self.build(node.args[6]) if len(node.args) > 6 else None
        return self._conjugated(array, metadata)

    def _tensor_v3(self, node: Record) -> Shaped[np.ndarray, "..."]:
        """The version for dtypes without a storage class: (storage, ..., hooks, dtype, metadata)."""
        dtype = node.args[6]
        if not (isinstance(dtype, Record) and dtype.module == "torch" and dtype.name in DTYPES):
            name = dtype.name if isinstance(dtype, Record) else "not even named"
            raise Damage(f"it has a tensor of a dtype that is not supported ({name[:40]})")
        array = self._view(*node.args[:4], dtype=DTYPES[dtype.name])
        return self._conjugated(array, self.build(node.args[7]) if len(node.args) > 7 else None)

    def _conjugated(self, array: np.ndarray, metadata: Any) -> Shaped[np.ndarray, "..."]:
        if not isinstance(metadata, dict):
            return array
        for flag, apply in (("conj", np.conj), ("neg", np.negative)):
            if metadata.get(flag):
                self._charge(array.nbytes)
                array = np.asarray(apply(array))
        return array

    def _view(
        self, storage: Any, offset: Any, size: Any, stride: Any, dtype: np.dtype | None = None
    ) -> Shaped[np.ndarray, "..."]:
        """A tensor's array over its storage's memory, nothing being copied; every index is checked to be inside."""
        size, stride = self.build(size), self.build(stride)
        numbers = (offset, *size, *stride)
        if not (isinstance(storage, StorageId) and all(type(number) is int for number in numbers)):
            raise Damage("it has a tensor whose storage, size or strides are of the wrong type")
        where = f"in storage {storage.key[:40]}"
        if min(numbers) < 0 or len(size) != len(stride) or len(size) > MAX_DIMENSIONS:
            raise Damage(f"a tensor {where} has an impossible offset, size or stride")
        raw = self.read_storage(storage)
        if storage.view:
            start = storage.view[0] * storage.dtype.itemsize
            raw = raw[start : start + self._length(storage) * storage.dtype.itemsize]
        dtype = dtype or storage.dtype
        if math.prod(max(length, 1) for length in size) >= 1 << 56:
            raise Damage(f"a tensor {where} has an impossible size")
        if 0 in size:
            return np.empty(size, dtype)
        # A dimension of length 1 is never stepped along, so its stride may be anything.
        stride = [step if length > 1 else 0 for length, step in zip(size, stride, strict=True)]
        span = 1 + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        if (offset + span) * dtype.itemsize > raw.size:
            raise Damage(f"a tensor {where} needs {(offset + span) * dtype.itemsize} bytes of it, which has {raw.size}")
        if math.prod(size) > span:
            self._charge(math.prod(size) * dtype.itemsize)
        array = np.ndarray(size, dtype, raw, offset * dtype.itemsize, [step * dtype.itemsize for step in stride])
        if self.swap and dtype.itemsize > 1:
            self._charge(array.nbytes)
            array = array.byteswap()
        return array

    def _charge(self, nbytes: int) -> None:
        self.allowance -= nbytes
        if self.allowance < 0:
            raise Damage("its tensors are far larger than the file (expanded along strides of 0)")

    def _wrapped_tensor(self, node: Record) -> Shaped[np.ndarray, "..."]:
        """_rebuild_parameter(tensor, ...) and what else adds to a tensor nothing that we need."""
        array = self.build(node.args[0])
        if not isinstance(array, np.ndarray):
            raise Damage(f"it has a parameter that is not a tensor but a {type(array).__name__}")
        return array

    def _tensor_of_type(self, node: Record) -> Any:
        """_rebuild_from_type_v2(function, type, args, state): a subclass of Tensor."""
        function, _, args, *_ = node.args
        if not (isinstance(function, Record) and isinstance(args, tuple)):
            raise Damage("its pickle is damaged (a tensor's subclass)")
        return self.build(self._keep(Record(function.module, function.name, args)))

    def _device_tensor(self, node: Record) -> Shaped[np.ndarray, "..."]:
        """_rebuild_device_tensor_from_numpy(array, dtype, device, ...), for TPUs and the like."""
        array, dtype = self._wrapped_tensor(node), node.args[1]
        if not (isinstance(dtype, Record) and dtype.name in DTYPES):
            raise Damage("it has a tensor of a dtype that is not supported")
        if array.dtype != DTYPES[dtype.name]:
            self._charge(array.size * DTYPES[dtype.name].itemsize)
            array = array.astype(DTYPES[dtype.name])
        return array

    # NumPy.

    def _dtype(self, node: Any) -> np.dtype | None:
        """The dtype of the record numpy.dtype("f8", ...) with its state (version, byte order, ...); numbers only."""
        if not (isinstance(node, Record) and (node.module, node.name) == ("numpy", "dtype") and node.args):
            return None
        code = node.args[0]
        if not (isinstance(code, str) and re.fullmatch(r"[<>|=]?(b1|[iu][1248]|f[248]|c8|c16)", code)):
            return None
        dtype = np.dtype(code)
        match node.state:
            case (_, "<" | ">" as order, *_):
                dtype = dtype.newbyteorder(order)
        return dtype

    def _array(self, node: Record, raw: Any, dtype: Any, shape: Any, order: str) -> Any:
        dtype, shape, raw = self._dtype(dtype), self.build(shape), self.build(raw)
        # What Python 2 wrote as bytes is read as a string.
        if isinstance(raw, str):
            self._charge(len(raw))
            raw = raw.encode("latin1")
        if dtype is None or not isinstance(raw, bytes) or not isinstance(shape, tuple):
            self._build_record(node)
            return self.memo[id(node)]
        if not all(type(length) is int and 0 <= length < 1 << 56 for length in shape) or len(shape) > MAX_DIMENSIONS:
            raise Damage("it has a NumPy array with an impossible shape")
        if math.prod(shape) * dtype.itemsize != len(raw):
            raise Damage("it has a NumPy array whose shape does not fit its bytes")
        array = np.frombuffer(raw, dtype).reshape(shape, order=order)
        if not dtype.isnative:
            self._charge(array.nbytes)
            array = array.astype(dtype.newbyteorder("="))
        return array

    def _numpy_array(self, node: Record) -> Any:
        """numpy.core.multiarray._reconstruct(...) with the state (version, shape, dtype, Fortran order, bytes)."""
        match node.state:
            case (_, shape, dtype, fortran, raw):
                return self._array(node, raw, dtype, shape, "F" if fortran else "C")
        self._build_record(node)
        return self.memo[id(node)]

    def _numpy_buffer(self, node: Record) -> Any:
        """numpy.core.numeric._frombuffer(bytes, dtype, shape, order)."""
        raw, dtype, shape, order = node.args
        return self._array(node, raw, dtype, shape, "F" if order == "F" else "C")

    def _numpy_scalar(self, node: Record) -> Any:
        """numpy.core.multiarray.scalar(dtype, bytes), as a number of Python's."""
        dtype, raw = node.args
        array = self._array(node, raw, dtype, (), "C")
        return array.item() if isinstance(array, np.ndarray) else array

    # Python.

    def _encoded(self, node: Record) -> bytes:
        """_codecs.encode(string, encoding): how protocol 2 writes bytes."""
        text, encoding = node.args
        if not (isinstance(text, str) and encoding in ("latin1", "utf-8", "ascii")):
            raise Damage("its pickle is damaged (bytes)")
        # Once for each string, which may be long and shared by many.
        key = (id(text), encoding)
        if key not in self.encoded:
            self.encoded[key] = text.encode(encoding)
        return self.encoded[key]

    def _dict(self, node: Record) -> dict:
        """OrderedDict, defaultdict, Counter; attributes that were set on it are left out."""
        target = self._remember(node, {})
        if node.args and isinstance(node.args[-1], dict):
            self._fill_dict(target, node.args[-1].items())
        elif node.args and isinstance(node.args[-1], list):
            # How Python 2 wrote OrderedDict.
            pairs = [tuple(pair) for pair in self._counted(node.args[-1])]
            if any(len(pair) != 2 for pair in pairs):
                raise Damage("its pickle is damaged (OrderedDict)")
            node.items = pairs + node.items
        for key, _ in node.items:
            if not isinstance(key, Record):
                check_key(key)
        return self._fill_dict(target, node.items)

    def _list(self, node: Record) -> list:
        """A list or a deque."""
        target = self._remember(node, [])
        initial = node.args[0] if node.args and isinstance(node.args[0], (list, tuple)) else ()
        target.extend(map(self.build, self._counted([*self._counted(initial), *node.entries])))
        return target

    def _collection(self, node: Record) -> Any:
        """A set, a frozenset or a tuple made of a list."""
        values = self.build(node.args[0]) if node.args else ()
        if not isinstance(values, (list, tuple)):
            raise Damage(f"its pickle is damaged ({node.name})")
        self._counted(values)
        if node.name in ("tuple", "Size"):
            return tuple(values)
        for value in values:
            check_key(value)
        return frozenset(values) if node.name == "frozenset" else set(values)

    def _complex(self, node: Record) -> complex:
        real, imaginary = node.args
        if not (isinstance(real, (int, float)) and isinstance(imaginary, (int, float))):
            raise Damage("its pickle is damaged (a complex number)")
        return complex(real, imaginary)

    def _reconstructed(self, node: Record) -> Any:
        """copyreg._reconstructor(class, base, value): how protocols 0 and 1 write objects."""
        cls = node.args[0]
        if not isinstance(cls, Record):
            raise Damage("its pickle is damaged (the class of an object)")
        record = self._keep(Record(cls.module, cls.name, ()))
        record.state, record.entries, record.items = node.state, node.entries, node.items
        return self.build(record)

    def _keep(self, node: Record) -> Record:
        # Nodes are remembered by their id, so those made on the way have to live as long.
        self.memo[-id(node)] = node
        return node


CONVERSIONS: dict[tuple[str, str], Callable[[Builder, Record], Any]] = {
    ("torch._utils", "_rebuild_tensor"): Builder._tensor,
    ("torch._utils", "_rebuild_tensor_v2"): Builder._tensor,
    ("torch._utils", "_rebuild_tensor_v3"): Builder._tensor_v3,
    ("torch._utils", "_rebuild_parameter"): Builder._wrapped_tensor,
    ("torch._utils", "_rebuild_parameter_with_state"): Builder._wrapped_tensor,
    ("torch.nn.parameter", "Parameter"): Builder._wrapped_tensor,
    ("torch.nn.parameter", "Buffer"): Builder._wrapped_tensor,
    ("torch.tensor", "_rebuild_from_type"): Builder._tensor_of_type,
    ("torch._tensor", "_rebuild_from_type"): Builder._tensor_of_type,
    ("torch._tensor", "_rebuild_from_type_v2"): Builder._tensor_of_type,
    ("torch._utils", "_rebuild_xla_tensor"): Builder._device_tensor,
    ("torch._utils", "_rebuild_device_tensor_from_numpy"): Builder._device_tensor,
    ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"): Builder._device_tensor,
    ("torch", "Size"): Builder._collection,
    **{
        (f"numpy.{core}.{module}", name): convert
        for core in ("core", "_core")
        for module, name, convert in (
            ("multiarray", "_reconstruct", Builder._numpy_array),
            ("multiarray", "scalar", Builder._numpy_scalar),
            ("numeric", "_frombuffer", Builder._numpy_buffer),
        )
    },
    ("_codecs", "encode"): Builder._encoded,
    **dict.fromkeys((("copyreg", "_reconstructor"), ("copy_reg", "_reconstructor")), Builder._reconstructed),
    **dict.fromkeys((("collections", name) for name in ("OrderedDict", "defaultdict", "Counter")), Builder._dict),
    ("collections", "deque"): Builder._list,
    **{
        (module, name): convert
        for module in ("builtins", "__builtin__")
        for name, convert in (
            ("set", Builder._collection),
            ("frozenset", Builder._collection),
            ("tuple", Builder._collection),
            ("list", Builder._list),
            ("dict", Builder._dict),
            ("complex", Builder._complex),
        )
    },
}
