"""Evaluates the syntax tree of a config: the part of Python that configs are written in, without running it.

A node that is not in the tables below is refused, with its line. So are names in double underscores, attributes
other than those of base configs and of the few modules, and calls other than those of `config_functions`.
"""

import ast
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from jaxseg.errors import ConfigError
from jaxseg.mmseg.config_functions import (
    FUNCTIONS,
    METHODS,
    MODULES,
    BaseDict,
    Budget,
    Function,
    Module,
    Refused,
    check_operands,
    format_value,
    hint,
)

BASE = "_base_"
MAX_NESTING = 100  # of expressions and statements in each other

BINARY: dict[type, tuple[Callable, Callable]] = {
    ast.Add: (operator.add, operator.iadd),
    ast.BitAnd: (operator.and_, operator.iand),
    ast.BitOr: (operator.or_, operator.ior),
    ast.BitXor: (operator.xor, operator.ixor),
    ast.Div: (operator.truediv, operator.itruediv),
    ast.FloorDiv: (operator.floordiv, operator.ifloordiv),
    ast.LShift: (operator.lshift, operator.ilshift),
    ast.Mod: (operator.mod, operator.imod),
    ast.Mult: (operator.mul, operator.imul),
    ast.Pow: (operator.pow, operator.ipow),
    ast.RShift: (operator.rshift, operator.irshift),
    ast.Sub: (operator.sub, operator.isub),
}
UNARY: dict[type, Callable] = {
    ast.Invert: operator.invert,
    ast.Not: operator.not_,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
COMPARE: dict[type, Callable] = {
    ast.Eq: operator.eq,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda left, right: left in right,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.NotEq: operator.ne,
    ast.NotIn: lambda left, right: left not in right,
}
CONVERSIONS = {-1: None, ord("s"): "s", ord("r"): "r", ord("a"): "a"}
NEW_STYLE = "a config of the new style (`with read_base(): ...`), which is not supported; use `_base_ = [...]`"
REFUSED_NODES: dict[type, str] = {
    ast.AsyncFor: "async",
    ast.AsyncFunctionDef: "async",
    ast.ClassDef: "a class",
    ast.FunctionDef: "a function",
    ast.Lambda: "a lambda",
    ast.Try: "try",
    ast.While: "a while loop",
    ast.With: NEW_STYLE,
}
# What the allowed operations raise on wrong values. RuntimeError: a dict that changes while it is gone through.
VALUE_ERRORS = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


class Evaluator:
    """Runs the statements of one file; `names` are its variables, `lines` where they were set last.

    Args:
        path: of the file, for messages.
        budget: pays for all work.
        base: what `_base_` is, changed in place by a config that changes it; None where there is no such name.
    """

    def __init__(self, path: str, budget: Budget, base: BaseDict | None = None):
        self.path = path
        self.budget = budget
        self.names: dict[str, Any] = {} if base is None else {BASE: base}
        self.lines: dict[str, int] = {}
        self._scopes = [self.names]  # comprehensions add theirs
        self._nesting = 0

    def run(self, tree: ast.Module) -> None:
        """Runs all statements.

        Raises:
            ConfigError: at what a config may not do and at what fails, with the file and the line.
        """
        for statement in tree.body:
            self._execute(statement)

    def evaluate(self, node: ast.expr) -> Any:
        """The value of an expression. Raises ConfigError as `run` does."""
        with self._at(node):
            handler = self._EXPRESSIONS.get(type(node))
            if handler is None:
                raise _refused(node)
            return handler(self, node)

    def _execute(self, node: ast.stmt) -> None:
        with self._at(node):
            handler = self._STATEMENTS.get(type(node))
            if handler is None:
                raise _refused(node)
            handler(self, node)

    @contextmanager
    def _at(self, node: ast.expr | ast.stmt) -> Iterator[None]:
        """Pays for a node, and adds its place to what is raised in it."""
        self._nesting += 1
        try:
            self.budget.spend()
            if self._nesting > MAX_NESTING:
                raise Refused(f"expressions are nested more than {MAX_NESTING} deep")
            yield
        except ConfigError:
            raise
        except Refused as error:
            raise ConfigError(f"{self.path}:{node.lineno}: {error!s:.1000}") from None
        except VALUE_ERRORS as error:
            raise ConfigError(f"{self.path}:{node.lineno}: {type(error).__name__}: {error!s:.1000}") from error
        finally:
            self._nesting -= 1

    def _assign(self, node: ast.Assign) -> None:
        # The reader has dealt with `_base_ = ...` before; the name stands for what the bases hold.
        if not _is_base(node):
            value = self.evaluate(node.value)
            for target in node.targets:
                self._bind(target, value)

    def _annotated_assign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._bind(node.target, self.evaluate(node.value))

    def _augmented_assign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            result = self._binary(type(node.op), self.evaluate(node.target), self.evaluate(node.value), in_place=True)
            self._bind(node.target, result)
        else:
            # The place is evaluated once: it may call `pop`.
            container, key = self._place(node.target)
            result = self._binary(type(node.op), container[key], self.evaluate(node.value), in_place=True)
            self._put(container, key, result)

    def _expression(self, node: ast.Expr) -> None:
        self.evaluate(node.value)

    def _if(self, node: ast.If) -> None:
        for statement in node.body if self.evaluate(node.test) else node.orelse:
            self._execute(statement)

    def _for(self, node: ast.For) -> None:
        for item in self._iterate(node.iter):
            self._bind(node.target, item)
            for statement in node.body:
                self._execute(statement)
        for statement in node.orelse:
            self._execute(statement)

    def _delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                if target.id not in self.names:
                    raise Refused(f"`{target.id}` is not defined. {hint(target.id, self.names)}")
                del self.names[target.id]
            else:
                container, key = self._place(target)
                del container[key]

    def _import(self, node: ast.Import) -> None:
        for alias in node.names:
            module = _module(alias.name)
            # `import os.path` binds `os`.
            name, value = (alias.asname, module) if alias.asname else (top := alias.name.split(".")[0], MODULES[top])
            self._set_name(name, value, node)

    def _import_from(self, node: ast.ImportFrom) -> None:
        if node.level:
            raise Refused(NEW_STYLE)
        module = _module(node.module)
        for alias in node.names:
            self._set_name(alias.asname or alias.name, _member(module, alias.name), node)

    def _pass(self, node: ast.Pass) -> None:
        """Nothing to do."""

    def _bind(self, target: ast.expr, value: Any) -> None:
        """Assigns `value` to a target: a name, an item, a key as an attribute, or several of them."""
        if isinstance(target, ast.Name):
            self._set_name(target.id, value, target)
        elif isinstance(target, (ast.Tuple, ast.List)):
            self._bind_several(target, self.budget.items(value))
        else:
            self._put(*self._place(target), value)

    def _put(self, container: Any, key: Any, value: Any) -> None:
        if isinstance(container, BaseDict):
            self.budget.measure(value)  # is copied
        container[key] = self.budget.items(value) if isinstance(key, slice) else value

    def _bind_several(self, target: ast.Tuple | ast.List, values: list[Any]) -> None:
        starred = [index for index, part in enumerate(target.elts) if isinstance(part, ast.Starred)]
        targets = [part.value if isinstance(part, ast.Starred) else part for part in target.elts]
        if starred:
            first, rest = starred[0], len(targets) - starred[0] - 1
            if len(values) >= first + rest:
                last = len(values) - rest
                values = [*values[:first], values[first:last], *values[last:]]
        if len(values) != len(targets):
            raise Refused(f"{len(values)} values for {len(targets)} names")
        for part, value in zip(targets, values, strict=True):
            self._bind(part, value)

    def _set_name(self, name: str, value: Any, node: ast.AST) -> None:
        self._scopes[-1][name] = value
        self.lines[name] = node.lineno

    def _place(self, target: ast.expr) -> tuple[Any, Any]:
        """The container and the key of an item or attribute that is assigned to or deleted."""
        if isinstance(target, ast.Subscript):
            return self.evaluate(target.value), self._key(target.slice)
        if isinstance(target, ast.Attribute):
            container = self.evaluate(target.value)
            if not isinstance(container, BaseDict) or hasattr(BaseDict, target.attr):
                raise Refused(f"the attribute `{target.attr}` cannot be set; use ['{target.attr}']")
            return container, target.attr
        raise _refused(target)

    def _constant(self, node: ast.Constant) -> Any:
        return node.value

    def _name(self, node: ast.Name) -> Any:
        value = self._lookup(node.id)
        if isinstance(value, (Function, Module)):
            raise Refused(f"`{node.id}` is not a value that a config can hold; it can only be called or looked into")
        return value

    def _lookup(self, name: str) -> Any:
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        if name in FUNCTIONS:
            return FUNCTIONS[name]
        if name.startswith("__") and name.endswith("__"):
            raise Refused(f"`{name}` is not allowed in a config")
        raise Refused(f"`{name}` is not defined, or not allowed in a config. {hint(name, [*self.names, *FUNCTIONS])}")

    def _attribute(self, node: ast.Attribute) -> Any:
        value = self._member_of(node)
        if isinstance(value, (Function, Module)):
            raise Refused(f"`{node.attr}` is not a value that a config can hold; it can only be called or looked into")
        return value

    def _member_of(self, node: ast.Attribute) -> Any:
        """An attribute of a module or of a base config's dict."""
        owner = self._owner(node)
        if isinstance(owner, Module):
            return _member(owner, node.attr)
        if isinstance(owner, BaseDict) and not hasattr(BaseDict, node.attr):
            return _item(owner, node.attr)
        raise Refused(
            f"the attribute `{node.attr}` of `{_type_name(owner)}` is not allowed in a config; "
            f"only dicts of `_base_` have their keys as attributes, use ['{node.attr}']"
        )

    def _owner(self, node: ast.Attribute) -> Any:
        """What the attribute is of; the only place, besides calls, where a module may be named."""
        if isinstance(node.value, ast.Name):
            return self._lookup(node.value.id)
        return self._member_of(node.value) if isinstance(node.value, ast.Attribute) else self.evaluate(node.value)

    def _subscript(self, node: ast.Subscript) -> Any:
        container, key = self.evaluate(node.value), self._key(node.slice)
        if isinstance(container, dict):
            return _item(container, key)
        value = container[key]
        return self.budget.created(value) if isinstance(key, slice) else value

    def _key(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Slice):
            return slice(*(part and self.evaluate(part) for part in (node.lower, node.upper, node.step)))
        return self._hashable(node)

    def _hashable(self, node: ast.expr) -> Any:
        """The value of a key. To hash a tuple of tuples is to walk it."""
        value = self.evaluate(node)
        self.budget.measure(value)
        return value

    def _call(self, node: ast.Call) -> Any:
        function, args = self._callee(node.func)
        args += self._elements(node.args)
        kwargs: dict[str, Any] = {}
        for keyword in node.keywords:
            value = self.evaluate(keyword.value)
            items = {keyword.arg: value} if keyword.arg is not None else _mapping(value)
            if twice := kwargs.keys() & items.keys():
                raise Refused(f"the keyword `{sorted(twice, key=str)[0]}` is given twice")
            self.budget.spend(len(items))
            kwargs |= items
        return self.budget.created(function.call(self.budget, *args, **kwargs))

    def _callee(self, node: ast.expr) -> tuple[Function, list[Any]]:
        """The function that is called, and the object before its dot if it is a method."""
        if isinstance(node, ast.Name):
            function, args = self._lookup(node.id), []
        elif isinstance(node, ast.Attribute):
            owner = self._owner(node)
            if isinstance(owner, Module):
                function, args = _member(owner, node.attr), []
            else:
                methods = METHODS.get(type(owner), {})
                if node.attr not in methods:
                    what = f"the method `{node.attr}` of `{_type_name(owner)}`"
                    raise Refused(f"{what} is not allowed in a config. {hint(node.attr, methods)}")
                function, args = methods[node.attr], [owner]
        else:
            raise Refused("only functions and methods that have names can be called in a config")
        if not isinstance(function, Function):
            name = node.id if isinstance(node, ast.Name) else node.attr
            raise Refused(f"`{name}` is not a function that a config can call")
        return function, args

    def _elements(self, nodes: list[ast.expr]) -> list[Any]:
        """The values of displays and arguments, `*` unpacked."""
        values: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                values += self.budget.items(self.evaluate(node.value))
            else:
                values.append(self.evaluate(node))
        return values

    def _list(self, node: ast.List) -> list[Any]:
        return self._elements(node.elts)

    def _tuple(self, node: ast.Tuple) -> tuple[Any, ...]:
        return tuple(self._elements(node.elts))

    def _set(self, node: ast.Set) -> set[Any]:
        values = self._elements(node.elts)
        self.budget.measure(values)
        return set(values)

    def _dict(self, node: ast.Dict) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                result.update(self.budget.created(_mapping(self.evaluate(value))))
            else:
                result[self._hashable(key)] = self.evaluate(value)
        return result

    def _binary_operation(self, node: ast.BinOp) -> Any:
        return self._binary(type(node.op), self.evaluate(node.left), self.evaluate(node.right))

    def _binary(self, kind: type, left: Any, right: Any, in_place: bool = False) -> Any:
        if kind not in BINARY:
            raise Refused("the operator `@` is not allowed in a config")
        check_operands(kind, left, right, self.budget)
        if in_place and isinstance(left, list) and kind is ast.Add:
            right = self.budget.items(right)
        return self.budget.created(BINARY[kind][in_place](left, right))

    def _unary_operation(self, node: ast.UnaryOp) -> Any:
        return UNARY[type(node.op)](self.evaluate(node.operand))

    def _boolean_operation(self, node: ast.BoolOp) -> Any:
        stop = isinstance(node.op, ast.Or)
        for operand in node.values:
            value = self.evaluate(operand)
            if bool(value) is stop:
                break
        return value

    def _comparison(self, node: ast.Compare) -> bool:
        left = self.evaluate(node.left)
        for operation, operand in zip(node.ops, node.comparators, strict=True):
            right = self.evaluate(operand)
            if isinstance(right, range) and not isinstance(left, int):
                right = self.budget.items(right)  # is gone through, item by item
            self.budget.measure(left, right)
            if not COMPARE[type(operation)](left, right):
                return False
            left = right
        return True

    def _conditional(self, node: ast.IfExp) -> Any:
        return self.evaluate(node.body if self.evaluate(node.test) else node.orelse)

    def _joined_string(self, node: ast.JoinedStr) -> str:
        text = ""
        for part in node.values:
            text = self.budget.created(text + self.evaluate(part))
        return text

    def _formatted_value(self, node: ast.FormattedValue) -> str:
        spec = self.evaluate(node.format_spec) if node.format_spec else ""
        return format_value(self.budget, self.evaluate(node.value), CONVERSIONS[node.conversion], spec)

    def _list_comprehension(self, node: ast.ListComp | ast.GeneratorExp) -> list[Any]:
        return [self.evaluate(node.elt) for _ in self._loop(node.generators)]

    def _generator(self, node: ast.GeneratorExp) -> Iterator[Any]:
        return iter(self._list_comprehension(node))

    def _set_comprehension(self, node: ast.SetComp) -> set[Any]:
        return {self._hashable(node.elt) for _ in self._loop(node.generators)}

    def _dict_comprehension(self, node: ast.DictComp) -> dict[Any, Any]:
        return {self._hashable(node.key): self.evaluate(node.value) for _ in self._loop(node.generators)}

    def _loop(self, generators: list[ast.comprehension]) -> Iterator[None]:
        """Goes through the clauses of a comprehension, with its variables in a scope of their own."""
        self._scopes.append({})
        yield from self._clauses(generators)
        self._scopes.pop()

    def _clauses(self, generators: list[ast.comprehension]) -> Iterator[None]:
        if not generators:
            yield
            return
        clause, *others = generators
        if clause.is_async:
            raise Refused("async is not allowed in a config")
        for item in self._iterate(clause.iter):
            self._bind(clause.target, item)
            if all(self.evaluate(condition) for condition in clause.ifs):
                yield from self._clauses(others)

    def _iterate(self, node: ast.expr) -> Iterator[Any]:
        # Not made a list first: a loop may go on over what it appends, until the budget ends it.
        for item in self.evaluate(node):
            self.budget.spend()
            yield item

    _STATEMENTS: ClassVar[dict[type, Callable[..., None]]] = {
        ast.AnnAssign: _annotated_assign,
        ast.Assign: _assign,
        ast.AugAssign: _augmented_assign,
        ast.Delete: _delete,
        ast.Expr: _expression,
        ast.For: _for,
        ast.If: _if,
        ast.Import: _import,
        ast.ImportFrom: _import_from,
        ast.Pass: _pass,
    }
    _EXPRESSIONS: ClassVar[dict[type, Callable[..., Any]]] = {
        ast.Attribute: _attribute,
        ast.BinOp: _binary_operation,
        ast.BoolOp: _boolean_operation,
        ast.Call: _call,
        ast.Compare: _comparison,
        ast.Constant: _constant,
        ast.Dict: _dict,
        ast.DictComp: _dict_comprehension,
        ast.FormattedValue: _formatted_value,
        ast.GeneratorExp: _generator,
        ast.IfExp: _conditional,
        ast.JoinedStr: _joined_string,
        ast.List: _list,
        ast.ListComp: _list_comprehension,
        ast.Name: _name,
        ast.Set: _set,
        ast.SetComp: _set_comprehension,
        ast.Subscript: _subscript,
        ast.Tuple: _tuple,
        ast.UnaryOp: _unary_operation,
    }


def _is_base(node: ast.stmt) -> bool:
    """Whether a statement is `_base_ = ...`."""
    return isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == BASE


def base_assignment(tree: ast.Module) -> ast.Assign | None:
    """The statement `_base_ = ...` of a file, the first if there are several."""
    return next((node for node in tree.body if _is_base(node)), None)


def _refused(node: ast.AST) -> Refused:
    what = REFUSED_NODES.get(type(node), f"this kind of syntax ({type(node).__name__})")
    return Refused(what if what is NEW_STYLE else f"{what} is not allowed in a config")


def _module(name: str) -> Module:
    if name.startswith("mmengine"):
        raise Refused(NEW_STYLE)
    if name not in MODULES:
        raise Refused(f"a config cannot import `{name}`. {hint(name, MODULES)}")
    return MODULES[name]


def _member(module: Module, name: str) -> Any:
    if name not in module.members:
        what = f"`{module.name}.{name}` is not allowed in a config"
        if name in ("environ", "getenv"):
            raise Refused(f"{what}; write '{{{{$NAME:default}}}}' for an environment variable")
        raise Refused(f"{what}. {hint(name, module.members)}")
    return module.members[name]


def _mapping(value: Any) -> dict:
    if not isinstance(value, dict):
        raise Refused(f"`**` needs a dict, not a {type(value).__name__}")
    return value


def _item(container: dict, key: Any) -> Any:
    if key not in container:
        raise Refused(f"there is no key {key!r}. {hint(key, container)}")
    return container[key]


def _type_name(value: Any) -> str:
    return "dict" if isinstance(value, BaseDict) else type(value).__name__
