"""Reads the YAML of a knowledge base, safely, with file and line in every error."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from fovea.errors import KnowledgeError
from fovea.knowledge.base import FACTS, Knowledge
from fovea.knowledge.clauses import FACT_PATTERN
from fovea.knowledge.glossary import FactMeaning, uses_of
from fovea.knowledge.models import Entry, Reference
from fovea.knowledge.norms import Norms
from fovea.knowledge.rules import ScaleRules

MAX_FILE_BYTES = 256_000
MAX_FILES = 2_000
MAX_DEPTH = 20
REFERENCES = "references.yaml"
RULES = FACTS.partition("/")[0]

ModelT = TypeVar("ModelT", bound=BaseModel)


def load(folder: Path | None = None, *, norms: Path | None = None) -> Knowledge:
    """The knowledge base in a folder; the shipped one when omitted.

    A `Knowledge` never changes, so one process shares it; a folder whose files
    changed is read again.

    Args:
        folder: With `references.yaml`.
        norms: File of `fovea norms build`, whose percentiles are laid over it.

    Raises:
        KnowledgeError: naming file, line and field.
    """
    folder = _shipped() if folder is None else folder
    if not folder.is_dir():
        raise KnowledgeError(
            "The knowledge base folder does not exist",
            where=folder.name,
            fix="Set `knowledge_dir` to a folder with `references.yaml`",
        )
    files = sorted(path for path in folder.rglob("*.yaml") if path.is_file())
    if len(files) > MAX_FILES:
        raise KnowledgeError(f"More than {MAX_FILES} files", where=folder.name)
    stamps = tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files)
    stamp = None
    if norms is not None:
        if not norms.is_file():
            raise KnowledgeError(
                "There are no such norms", where=norms.name,
                fix="Run `fovea norms build`, or unset `FOVEA_NORMS`",
            )  # fmt: skip
        stamp = (str(norms.absolute()), norms.stat().st_mtime_ns, norms.stat().st_size)
    return _load(folder.absolute(), stamps, stamp)


def read_norms(path: Path) -> Norms:
    """The percentiles in a file.

    Raises:
        KnowledgeError: naming file, line and field.
    """
    document = _Document.read(path, path.name)
    return document.validate(Norms, document.content, ())


def _shipped() -> Path:
    spec = importlib.util.find_spec("fovea_knowledge")
    if spec is None or not spec.submodule_search_locations:
        raise KnowledgeError(
            "The shipped knowledge base is not installed", fix="Install Fovea again"
        )
    return Path(next(iter(spec.submodule_search_locations)))


@functools.lru_cache(maxsize=4)
def _load(
    folder: Path,
    stamps: tuple[tuple[str, int, int], ...],
    norms: tuple[str, int, int] | None,
) -> Knowledge:
    digest = hashlib.sha256()
    references: dict[str, Reference] = {}
    facts: dict[str, FactMeaning] = {}
    scales: dict[str, tuple[ScaleRules, _Document]] = {}
    entries: dict[str, tuple[Entry, _Document]] = {}
    for path in (Path(name) for name, _, _ in stamps):
        document = _Document.read(path, path.relative_to(folder).as_posix())
        digest.update(f"{document.name}\n{document.text}\n".encode())
        if document.name == REFERENCES:
            references = document.each(Reference)
        elif document.name == FACTS:
            facts = document.each(FactMeaning, FACT_PATTERN)
        elif document.name.startswith(f"{RULES}/"):
            rules = document.validate(ScaleRules, document.content, ())
            document.claim_id(rules.id, path, scales)
            scales[rules.id] = rules, document
        else:
            entry = document.validate(Entry, document.content, ())
            document.claim_id(entry.id, path, entries)
            entries[entry.id] = entry, document
    if not references:
        raise KnowledgeError("The file with the sources is missing", where=f"{REFERENCES}:1")
    known = {identifier: entry for identifier, (entry, _) in entries.items()}
    for entry, document in entries.values():
        _check_links(entry, document, known, references)
    for rules, document in scales.values():
        _check_rule_links(rules, document, facts, references)
    return Knowledge(
        known, references, rules={i: rules for i, (rules, _) in scales.items()}, facts=facts,
        files={i: document.name for i, (_, document) in entries.items()},
        version=digest.hexdigest()[:12],
        norms=read_norms(Path(norms[0])) if norms else None,
    )  # fmt: skip


def _check_rule_links(
    rules: ScaleRules,
    document: _Document,
    facts: Mapping[str, FactMeaning],
    refs: Mapping[str, Reference],
) -> None:
    for key in rules.cite:
        if key not in refs:
            raise document.error(f"The source `{key}` is not in `{REFERENCES}`", ("cite",))
    fields = [("grades", number, "when") for number in range(len(rules.grades))]
    fields += [("applies", number, "when") for number in range(len(rules.applies))]
    for field, clause in zip(fields, rules.clauses(), strict=True):
        for use in uses_of(clause):
            if use.atom.fact not in facts:
                raise document.error(f"The fact `{use.atom.fact}` is not in `{FACTS}`", field)


def _check_links(
    entry: Entry, document: _Document, entries: Mapping[str, Entry], refs: Mapping[str, Reference]
) -> None:
    for number, source in enumerate(entry.sources):
        if source.key not in refs:
            raise document.error(
                f"The source `{source.key}` is not in `{REFERENCES}`", ("sources", number, "key")
            )
    for field, other in entry.refs():
        if other not in entries:
            raise document.error(f"`{field}` points to `{other}`, which no file defines", (field,))
    if entry.criteria and entries[entry.criteria.scale].kind != "scale":
        raise document.error(f"`{entry.criteria.scale}` is not a scale", ("criteria", "scale"))


_OPENING = (
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
)
_CLOSING = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)


def _refuse_bombs(text: str, name: str) -> None:
    """Looks at the tokens before anything is built from them."""
    depth = 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        where = f"{name}:{token.start_mark.line + 1}"
        # Anchors serve only to share or to bomb: three lines can expand to gigabytes.
        if isinstance(token, yaml.AliasToken | yaml.AnchorToken):
            raise KnowledgeError(
                "Anchors and aliases are not allowed", where=where, fix="Write the value out"
            )
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        if depth > MAX_DEPTH:
            raise KnowledgeError(f"Nested more than {MAX_DEPTH} levels deep", where=where)


class _Document:
    """One parsed YAML file that knows the line of each field."""

    def __init__(self, name: str, text: str, root: yaml.Node | None, content: object) -> None:
        self.name, self.text, self.root, self.content = name, text, root, content

    @classmethod
    def read(cls, path: Path, name: str) -> _Document:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise KnowledgeError(f"The file is larger than {MAX_FILE_BYTES} bytes", where=name)
        try:
            text = path.read_text(encoding="utf-8")
            _refuse_bombs(text, name)
            root = yaml.compose(text, Loader=yaml.SafeLoader)
            document = cls(name, text, root, yaml.safe_load(text))
        except UnicodeDecodeError as error:
            raise KnowledgeError("The file is not UTF-8 text", where=f"{name}:1") from error
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise KnowledgeError(
                "The YAML is malformed", where=f"{name}:{line}", why=error.problem or ""
            ) from error
        except (yaml.YAMLError, ValueError) as error:
            raise KnowledgeError(
                "The YAML is malformed", where=f"{name}:1", why=str(error).split("\n")[0]
            ) from error
        document._refuse_doubled_keys(root)
        return document

    def mapping(self) -> dict[Any, Any]:
        if not isinstance(self.content, dict):
            raise self.error("The file is not a mapping of fields", ())
        return self.content

    def each(self, model: type[ModelT], pattern: str = ".") -> dict[str, ModelT]:
        """Every value of the file's mapping, by its key."""
        found = {}
        for key, value in self.mapping().items():
            if not re.search(pattern, str(key)):
                raise self.error(f"`{key}` is not a name", (key,))
            found[str(key)] = self.validate(model, value, (key,))
        return found

    def claim_id(self, identifier: str, path: Path, taken: Collection[str]) -> None:
        """Refuses an id that is not the file name, or that another file has."""
        if identifier != path.stem:
            raise self.error(f"The id `{identifier}` is not the file name", ("id",))
        if identifier in taken:
            raise self.error(f"The id `{identifier}` is used twice", ("id",))

    def validate(self, model: type[ModelT], value: object, path: Sequence[object]) -> ModelT:
        try:
            return model.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = (*path, *first["loc"])
            field = ".".join(str(part) for part in where) or "(top level)"
            message = first["msg"].removeprefix("Value error, ")
            raise self.error(f"`{field}`: {message}", where) from error

    def error(self, what: str, path: Sequence[object]) -> KnowledgeError:
        return KnowledgeError(what, where=f"{self.name}:{self._line(path)}")

    def _line(self, path: Sequence[object]) -> int:
        """The line of a field, or of the nearest parent that is there."""
        node, line = self.root, 1
        for part in path:
            if isinstance(node, yaml.MappingNode):
                pair = next((p for p in node.value if p[0].value == str(part)), None)
                if pair is None:
                    continue  # such as the name that pydantic gives one kind of a union
                line, node = pair[0].start_mark.line + 1, pair[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
                if part >= len(node.value):
                    break
                node = node.value[part]
                line = node.start_mark.line + 1
        return line

    def _refuse_doubled_keys(self, node: yaml.Node | None) -> None:
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if key.value in seen:
                    raise KnowledgeError(
                        f"The key `{key.value}` occurs twice",
                        where=f"{self.name}:{key.start_mark.line + 1}",
                    )
                seen.add(str(key.value))
                self._refuse_doubled_keys(value)
        elif isinstance(node, yaml.SequenceNode):
            for item in node.value:
                self._refuse_doubled_keys(item)
