"""One person's session: photographs, transcript, evidence, reports, and its folder.

Everything about a person lives in one `Session` and its folder; nothing on a
module or a class. The folder holds copies of the uploads under their handles
(the names they came with are dropped), artifacts, and one `session.json`.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from fovea.errors import SessionError
from fovea.evidence import Evidence, ImageRecord
from fovea.image import Eye, Photograph, open_photograph
from fovea.settings import Settings

OPEN_SESSIONS = 64
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "TIFF": ".tif", "BMP": ".bmp", "WEBP": ".webp"}


class Message(BaseModel):
    """One line of the transcript."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["user", "assistant"]
    content: str
    evidence_ids: tuple[str, ...] = ()


class Refusal(BaseModel):
    """Why a tool definitely gives no answer for some photographs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tool: str
    what: str
    why: str
    fix: str


class StoredReport(BaseModel):
    """A report that was drafted: its files lie in the session folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    evidence_id: str


class Session:
    """State of one conversation. One turn at a time: hold `turn()` while working."""

    def __init__(self, session_id: str, folder: Path, settings: Settings) -> None:
        self.id, self.folder, self.settings = session_id, folder, settings
        self.images: dict[str, ImageRecord] = {}
        self.messages: list[Message] = []
        self.evidence: dict[str, Evidence] = {}
        self.reports: list[StoredReport] = []
        self.refused: dict[str, Refusal] = {}
        self.stop = threading.Event()
        self._photographs: dict[str, Photograph] = {}
        self._turn = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the session for one turn; a second one at the same time is refused."""
        if not self._turn.acquire(blocking=False):
            raise SessionError(
                "The last question is still being answered", fix="Wait for it, or press stop"
            )
        self.stop.clear()
        try:
            yield
        finally:
            try:
                self.save()
            finally:  # a full disk must not lock the session for good
                self._turn.release()

    def add_image(self, path: Path, *, eye: Eye | None = None) -> ImageRecord:
        """Take a photograph into the session; the same file twice is one photograph.

        Raises:
            ImageError: the file cannot be used; the session is unchanged.
        """
        handle = f"img{len(self.images) + 1}"
        photograph = open_photograph(path, handle, eye=eye, settings=self.settings)
        for known in self.images.values():
            if known.sha256 == photograph.sha256:
                return self.label_eye(known.handle, eye) if eye else known
        suffix = _SUFFIXES.get(photograph.format, ".dcm")
        shutil.copyfile(path, self.folder / f"{handle}{suffix}")
        self._photographs[handle] = photograph
        self.images[handle] = ImageRecord(
            handle=handle,
            sha256=photograph.sha256,
            format=photograph.format,
            width=photograph.width,
            height=photograph.height,
            eye=photograph.eye,
            eye_source=photograph.eye_source,
            um_per_px=photograph.scale.um_per_px if photograph.scale else None,
            notes=photograph.notes,
        )
        return self.images[handle]

    def label_eye(self, handle: str, eye: Eye) -> ImageRecord:
        """Record which eye a person says a photograph shows.

        Evidence that was made under another label is dropped: its texts name the eye.
        """
        record = self.images[handle]
        if record.eye != eye:
            self._photographs[handle] = self.photograph(handle).labelled(eye)
            self.images[handle] = record.model_copy(update={"eye": eye, "eye_source": "person"})
            self.evidence = {k: e for k, e in self.evidence.items() if handle not in e.images}
            self.refused.clear()
        return self.images[handle]

    def photograph(self, handle: str) -> Photograph:
        """The opened photograph of a handle."""
        if handle not in self.images:
            raise SessionError(
                f"There is no photograph `{handle}`",
                why=f"This session has {', '.join(self.images) or 'none'}",
            )
        if handle not in self._photographs:
            path = next(self.folder.glob(f"{handle}.*"), self.folder / handle)
            record = self.images[handle]
            eye = record.eye if record.eye_source == "person" else None
            photograph = open_photograph(path, handle, eye=eye, settings=self.settings)
            if photograph.sha256 != record.sha256:
                raise SessionError(
                    f"The file of `{handle}` is not the one that was added",
                    why="It was changed on disk",
                    fix="Start a new session and add the photograph again",
                )
            self._photographs[handle] = photograph
        return self._photographs[handle]

    def next_evidence_id(self) -> str:
        """The id for the next piece of evidence; ids are never given twice."""
        used = [int(key[1:]) for key in self.evidence]
        used += [int(key[1:]) for message in self.messages for key in message.evidence_ids]
        return f"E{max(used, default=0) + 1}"

    def find_evidence(self, key: str) -> Evidence | None:
        """Evidence of the same tool, arguments and images, if there is any."""
        return next((e for e in self.evidence.values() if e.key == key), None)

    def work_dir(self) -> Path:
        """A new private folder for the artifacts of one call."""
        return Path(tempfile.mkdtemp(prefix="call-", dir=self.folder))

    def save(self) -> None:
        """Write `session.json`; an interrupted write leaves the previous one whole."""
        state = {
            "version": 1,
            "id": self.id,
            "images": [record.model_dump(mode="json") for record in self.images.values()],
            "messages": [message.model_dump(mode="json") for message in self.messages],
            "evidence": [self._relative(e) for e in self.evidence.values()],
            "reports": [report.model_dump(mode="json") for report in self.reports],
            "refused": {key: r.model_dump(mode="json") for key, r in self.refused.items()},
        }
        temporary = self.folder / "session.json.new"
        temporary.write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")
        temporary.replace(self.folder / "session.json")

    def _relative(self, evidence: Evidence) -> dict[str, Any]:
        content = evidence.model_dump(mode="json")
        for artifact in content["result"]["artifacts"]:
            artifact["path"] = Path(artifact["path"]).relative_to(self.folder).as_posix()
        return content

    @classmethod
    def reopen(cls, folder: Path, settings: Settings) -> Session:
        """The session saved in a folder.

        Raises:
            SessionError: there is none, or it is damaged; the files are left as they are.
        """
        try:
            state = json.loads((folder / "session.json").read_text(encoding="utf-8"))
            session = cls(state["id"], folder, settings)
            for record in map(ImageRecord.model_validate, state["images"]):
                session.images[record.handle] = record
            session.messages = [Message.model_validate(m) for m in state["messages"]]
            for content in state["evidence"]:
                for artifact in content["result"]["artifacts"]:
                    path = folder / artifact["path"]
                    if not path.resolve().is_relative_to(folder.resolve()):
                        raise ValueError("an artifact lies outside the session")
                    artifact["path"] = str(path)
                evidence = Evidence.model_validate(content)
                session.evidence[evidence.id] = evidence
            session.reports = [StoredReport.model_validate(r) for r in state["reports"]]
            session.refused = {k: Refusal.model_validate(r) for k, r in state["refused"].items()}
        except FileNotFoundError as error:
            raise SessionError("There is no saved session here", fix="Start a new one") from error
        except (ValueError, KeyError, TypeError, OSError, ValidationError) as error:
            raise SessionError(
                "The saved session is damaged",
                where=f"session {folder.name[:8]}",
                fix="Start a new one; nothing was deleted",
            ) from error
        return session


class SessionStore:
    """All sessions of this installation, below one private folder."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._root = settings.data_dir / "sessions"
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._open: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def create(self) -> Session:
        """A new, empty session with a folder that only this user can read."""
        session_id = uuid.uuid4().hex
        folder = self._root / session_id
        folder.mkdir(mode=0o700)
        session = Session(session_id, folder, self._settings)
        session.save()
        self._remember(session)
        return session

    def get(self, session_id: str) -> Session:
        """The session with this id, from memory or from its folder."""
        if not re.fullmatch(r"[0-9a-f]{32}", session_id):
            raise SessionError("That is not a session id", fix="Start a new session")
        with self._lock:
            if session_id in self._open:
                self._open.move_to_end(session_id)
                return self._open[session_id]
        session = Session.reopen(self._root / session_id, self._settings)
        return self._remember(session)

    def delete(self, session_id: str) -> None:
        """Forget a session and remove its folder."""
        with self._lock:
            self._open.pop(session_id, None)
        if re.fullmatch(r"[0-9a-f]{32}", session_id):
            shutil.rmtree(self._root / session_id, ignore_errors=True)

    def sweep(self) -> int:
        """Delete sessions older than the setting allows; returns how many."""
        limit = time.time() - self._settings.session_days * 86400
        removed = 0
        for folder in self._root.iterdir():
            saved = folder / "session.json"
            if saved.is_file() and saved.stat().st_mtime < limit:
                self.delete(folder.name)
                removed += 1
        return removed

    def _remember(self, session: Session) -> Session:
        with self._lock:
            known = self._open.setdefault(session.id, session)
            self._open.move_to_end(session.id)
            while len(self._open) > OPEN_SESSIONS:
                self._open.popitem(last=False)
        return known
