"""A run: the directory that remembers what was done, and from which a killed run resumes exactly."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pilotage.core.atomic_io import (
    Lock,
    disk_errors,
    read_file,
    remove_directory,
    remove_stale_files,
    replace_directory,
    write_atomically,
)
from pilotage.core.errors import NonFinite, RunError, UsageError
from pilotage.core.names import nearest
from pilotage.core.serialisation import differences, from_json, to_json
from pilotage.core.stateful import Stateful
from pilotage.random.streams import Streams, derive_seed
from pilotage.runs import checkpoints
from pilotage.runs.artifacts import artifact, read_artifact
from pilotage.runs.hardware import check_device, numerics, versions
from pilotage.runs.inputs import input_hashes
from pilotage.runs.journal import Journal
from pilotage.runs.manifest import FAILED, INTERRUPTED, Manifest, Recipe
from pilotage.runs.metrics import FILES, Records, numbers
from pilotage.runs.state import save_tensors
from pilotage.runs.tracking import Trackers

if TYPE_CHECKING:
    import numpy as np
    import torch

RESULT_FORMAT = 1
_LONGEST_REASON = 2000
_NAMES = {"run.json", "lock", "sources"}
"""What may lie in a directory whose run was killed before run.json was in place."""


class Run:
    """A run's directory, locked for this process. Made by `Run.create` or `Run.open`; use it as `with run:`.

    The trainer asks it for named random numbers (`generator`, `numpy_generator`, `seed_for`), tells it what happens
    (`log`, `log_timing`, `log_rollout`, `log_event`), and every so often calls `save`. It begins with one
    call of `restore`.
    """

    def __init__(self, directory: Path, manifest: Manifest, lock: Lock, *, begun: bool) -> None:
        self.directory, self.manifest, self._lock = directory, manifest, lock
        self._must_restore = begun
        self._streams = Streams(manifest.seed)
        self._records = Records(directory)
        self._journals: dict[str, Journal] = {}
        self._trackers = Trackers(directory, manifest.system, manifest.config)
        self._resumed_at = 0

    # ---- opening and closing -----------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        directory: Path | str,
        *,
        system: str,
        config: Mapping[str, Any],
        seed: int,
        command: str = "",
        resume: bool = True,
        precision: str = "float32",
        threads: int | None = None,
        device: str = "cpu",
        inputs: Mapping[str, Path] | None = None,
        overwrite: bool = False,
    ) -> Run:
        """Begin a run in `directory`, or open the same one (system, configuration, seed) to go on with it.

        config: what JSON holds; a user function is `{"source": text, "name": "module:function"}`. seed: governs every
        named stream. command: the command line, for the record. resume: whether a run that is there may be gone on
        with. precision: of the products ("auto" is resolved); threads: of torch, by default those it has; device:
        where it computes; inputs: the files and folders that it reads, by option, whose hashes stand in run.json.
        overwrite: whether a run that is there is removed first; one that ended before its first step always is, unless
        it is this one. Raises UsageError when the directory holds something else (the differing keys are listed), is
        in use, or when a run would go on with other numerics or input files than it was begun with.
        """
        directory = Path(directory)
        now = numerics(precision, threads, check_device(device))
        with disk_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)
        strangers = {path.name for path in directory.iterdir() if not path.name.startswith(".")} - _NAMES
        if strangers and not (directory / "run.json").exists():
            raise UsageError(
                f"{directory} is not empty and not a run (it has {', '.join(sorted(strangers)[:3])}); give another one"
            )
        lock = _locked(directory)
        try:
            remove_stale_files(directory)
            if overwrite and (directory / "run.json").exists():
                _remove_run(directory)
            begun = (directory / "run.json").exists()
            hashes = input_hashes(inputs or {})
            if begun and not resume:
                raise UsageError(f"{directory} holds a run already; give another directory, or allow it to resume")
            if begun:
                manifest = Manifest.read(directory)
                try:
                    manifest.refuse_other(directory, system, config, seed)
                    manifest.refuse_other_inputs(directory, hashes)
                except UsageError:
                    if not _has_no_step(directory):
                        raise
                    _remove_run(directory)
                    begun = False
            if not begun:
                manifest = Manifest.make(directory, system, config, seed, command, now, hashes)
                manifest.write(directory)
            return cls._start(directory, manifest, lock, begun, now)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(cls, directory: Path | str, *, threads: int | None = None) -> Run:
        """Open an existing run.

        Raises UsageError when there is none, when it is in use, and, unless it is finished, when this process would
        not compute the same bits (see `create`).
        """
        directory = Path(directory)
        manifest = Manifest.read(directory)
        lock = _locked(directory)
        try:
            remove_stale_files(directory)
            stored = manifest.numerics
            if not (directory / "result.json").exists():
                paths = {name: Path(manifest.config[name]) for name in manifest.inputs}
                manifest.refuse_other_inputs(directory, input_hashes(paths))
            # A GPU is stored by its model's name, which is not a device that torch knows.
            device = stored["device"] if stored["device"] in ("cpu", "mps") else "cuda"
            return cls._start(directory, manifest, lock, True, numerics(stored["precision"], threads, device))
        except BaseException:
            lock.release()
            raise

    @classmethod
    def _start(cls, directory: Path, manifest: Manifest, lock: Lock, begun: bool, now: Mapping[str, Any]) -> Run:
        finished = (directory / "result.json").exists()
        if begun and not finished:
            manifest.refuse_other_numerics(directory, now)
        checkpoints.refuse_other_kind(directory / "checkpoints")
        if (directory / "checkpoints").is_dir():
            remove_stale_files(directory / "checkpoints")
        run = cls(directory, manifest, lock, begun=begun)
        if begun and not finished and (changed := differences(manifest.versions, versions())):
            listed = "; ".join(f"{name} was {before}, is {after}" for name, (before, after) in changed.items())
            run.log_event(None, "versions", f"going on with other versions: {listed}")
        return run

    @staticmethod
    def read_recipe(directory: Path | str, new_directory: Path | str | None = None) -> Recipe:
        """Return what it takes to make the run in `directory` again (`pilotage run --from`), without locking it.

        Raises UsageError when it is no run, when `new_directory` is the same one, or when a kept source was altered.
        """
        directory = Path(directory)
        if new_directory is not None and Path(new_directory).resolve() == directory.resolve():
            raise UsageError(f"{directory} cannot be made again in itself; give another directory for the new run")
        return Manifest.read(directory).recipe(directory)

    def close(self) -> None:
        """Write what is pending and release the directory; a second call does nothing."""
        if not self._lock.held:
            return
        try:
            self._records.close()
            for journal in self._journals.values():
                journal.close()
            self._trackers.close()
        finally:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._lock.held and not self.finished:
            self._note_end(error)
        self.close()

    def _note_end(self, error: BaseException) -> None:
        """Write why the run ended before its time, where that can still be written."""
        by_hand = isinstance(error, KeyboardInterrupt | GeneratorExit)
        text = "stopped by the user" if by_hand else f"{type(error).__name__}: {error}"[:_LONGEST_REASON]
        with contextlib.suppress(OSError, RunError):
            self.log_event(None, INTERRUPTED if by_hand else FAILED, text)

    @property
    def system(self) -> str:
        """Return the name of the system."""
        return self.manifest.system

    @property
    def seed(self) -> int:
        """Return the seed of the run."""
        return self.manifest.seed

    @property
    def config(self) -> Mapping[str, Any]:
        """Return the configuration, user functions with their source."""
        return self.manifest.recipe(self.directory).config

    # ---- random numbers ----------------------------------------------------------------------------------------------

    def generator(self, name: str, device: str | torch.device = "cpu") -> torch.Generator:
        """Return the torch generator of the stream `name`; checkpoints hold its state."""
        return self._streams.torch(name, device)

    def numpy_generator(self, name: str) -> np.random.Generator:
        """Return the numpy generator of the stream `name`; checkpoints hold its state."""
        return self._streams.numpy(name)

    def seed_for(self, name: str, *numbers: int) -> int:
        """Return a seed (63 bits) that depends on the run's seed, `name` and `numbers` alone, such as (step, row)."""
        return derive_seed(self.seed, name, *numbers)

    # ---- what happens ------------------------------------------------------------------------------------------------

    def describe_metric(self, name: str, text: str) -> None:
        """Explain the metric `name`, once: what it is, its unit and range. Kept in metrics.json.

        Raises UsageError when it was explained differently before.
        """
        self._records.describe(name, text)

    @property
    def undescribed(self) -> list[str]:
        """Return the metrics that this process logged without an explanation."""
        return self._records.undescribed

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write a line of numbers, no clock readings, to metrics.jsonl. Non-finite ones become null and an event."""
        self._refuse_before_restore()
        finite = self._records.log(step, metrics)
        self._trackers.log(step, finite, self._resumed_at)

    def log_timing(self, step: int, readings: Mapping[str, float]) -> None:
        """Write a line of clock readings (seconds, rates) to timing.jsonl, on disk after the next `log`.

        Two runs are compared without this file.
        """
        self._refuse_before_restore()
        self._records.add("timing", {"step": step, **numbers(readings)})

    def log_rollout(self, step: int, record: Mapping[str, Any]) -> None:
        """Write what the policy did to rollouts.jsonl (strings, numbers, lists); on disk after the next `log`."""
        self._refuse_before_restore()
        self._records.add("rollouts", {"step": step, **record})

    def log_event(self, step: int | None, kind: str, text: str) -> None:
        """Write a warning or alarm to events.jsonl.

        With step None it is about the process (it was resumed, a checkpoint was broken) and stays when the run goes
        back to a checkpoint.
        """
        self._records.event(step, kind, text)

    def _refuse_before_restore(self) -> None:
        if self._must_restore:
            raise RunError(f"{self.directory} was begun by an earlier process; call restore before going on with it")

    def check_finite(
        self, step: int, name: str, value: float | torch.Tensor, batch: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        """Raise NonFinite when `value` (a number or tensor) holds NaN or infinity.

        Before that, `batch` is kept in `failed-batch/` as safetensors. Call it before the optimiser's step: the last
        good checkpoint stays.
        """
        import torch

        finite = bool(torch.isfinite(value).all()) if isinstance(value, torch.Tensor) else math.isfinite(value)
        if finite:
            return
        self.log_event(step, "non-finite", f"{name} is not finite, which stops the run")
        good = next(iter(checkpoints.listed(self.directory / "checkpoints")), None)
        kept = self._keep_batch(step, name, batch) if batch else None
        raise NonFinite(step, name, kept, good[1] if good else None)

    def _keep_batch(self, step: int, name: str, batch: Mapping[str, torch.Tensor]) -> Path:
        place, aside = self.directory / "failed-batch", self.directory / ".writing-failed-batch"
        with disk_errors(place):
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            save_tensors(batch, aside / "batch.safetensors")
            (aside / "failure.json").write_text(json.dumps({"step": step, "name": name}))
            replace_directory(aside, place)
        return place

    def journal(self, name: str) -> Journal:
        """Open the journal `name` (in `journals/`): answers from outside, kept and replayed when the run resumes."""
        if name not in self._journals:
            (self.directory / "journals").mkdir(exist_ok=True)
            self._journals[name] = Journal(self.directory / "journals" / f"{name}.jsonl")
        return self._journals[name]

    def artifact(
        self,
        maker: Callable[..., None],
        config: Mapping[str, Any],
        inputs: Sequence[Path | str] = (),
        *,
        name: str,
        code: str | None = None,
        root: Path | str | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Path:
        """Make or find an artifact (`pilotage.runs.artifact`) and keep its hash in run.json.

        Raises UsageError when the run used another one of that name before: it was removed and made anew with other
        contents.
        """
        path = artifact(maker, config, inputs, name=name, code=code, root=root, progress=progress)
        about = read_artifact(path)
        entry = {"contents": about["contents"], "key": about["key"], "path": str(path), "seconds": about["seconds"]}
        before = self.manifest.artifacts.get(name)
        if before is not None and before["contents"] != entry["contents"]:
            raise UsageError(
                f"{self.directory} used the artifact {name} with contents {before['contents'][:12]}, and {path} now "
                f"holds {entry['contents'][:12]}; begin a new run, or restore the old artifact"
            )
        if before is None:
            self.manifest.artifacts[name] = entry
            self.manifest.write(self.directory)
        return path

    def track(self, names: Sequence[str]) -> None:
        """Send what is logged from now on also to TensorBoard, Weights & Biases or MLflow, by name.

        Raises UsageError for an unknown name, and names the line that installs what is missing.
        """
        self._trackers.add(names)

    # ---- checkpoints -------------------------------------------------------------------------------------------------

    def save(self, step: int, state: Mapping[str, Stateful | Mapping[str, Any]]) -> Path:
        """Write the checkpoint after `step`: the state of every entry, the random streams, and where the files stand.

        state: objects with `state_dict`, or nests that a checkpoint holds (see `pilotage.runs.state`). The newest two
        stay. Raises UsageError for a value that cannot be stored, DiskFull without room; earlier ones then survive.
        """
        self._refuse_before_restore()
        for journal in self._journals.values():
            journal.sync()
        book = {"offsets": self._records.sync(), "streams": self._streams.state_dict()}
        taken = {name: piece if isinstance(piece, Mapping) else piece.state_dict() for name, piece in state.items()}
        return checkpoints.write(self.directory / "checkpoints", step, taken, book)

    def restore(self, state: Mapping[str, Stateful | MutableMapping[str, Any]]) -> int:
        """Go back to the newest complete checkpoint: load the state, put the streams and files where they stood.

        Objects get `load_state_dict`; dictionaries are filled in place. A broken checkpoint is skipped with an event.
        Returns the step it was taken after; 0, with the files emptied, when there never was one. Raises UsageError
        when the checkpoint's entries are others than those of `state`, RunError when all checkpoints are broken.
        """
        self._must_restore = False
        with disk_errors(self.directory / "checkpoints"):
            found = checkpoints.listed(self.directory / "checkpoints")
        broken: list[str] = []
        chosen = None
        for _, path in found:
            try:
                with disk_errors(path):
                    chosen = checkpoints.read(path)
                if shortage := self._records.shortage(chosen.book["offsets"]):
                    raise checkpoints.BrokenCheckpoint(f"{path} does not fit the files: {shortage}")
                break
            except checkpoints.BrokenCheckpoint as error:
                broken.append(str(error))
                chosen = None
        if found and chosen is None:
            self._must_restore = True
            raise RunError(
                f"no checkpoint of {self.directory} can be read: {'; '.join(broken)}. Restore one from a copy, or "
                "remove the directory's checkpoints folder to begin from step 0"
            )
        if chosen is not None:
            self._load(chosen, state)
        self._records.cut(dict.fromkeys(FILES, 0) if chosen is None else chosen.book["offsets"])
        for text in broken:
            self.log_event(None, "broken checkpoint", f"skipped: {text}")
        if not broken:  # a kill may have come between writing the last one and removing an old one
            checkpoints.prune(self.directory / "checkpoints")
        self._resumed_at = 0 if chosen is None else chosen.step
        return self._resumed_at

    def _load(self, checkpoint: checkpoints.Checkpoint, state: Mapping[str, Any]) -> None:
        stored = checkpoint.state
        for name in state:
            if name not in stored:
                raise UsageError(f"the checkpoint of step {checkpoint.step} has no {name!r}{nearest(name, stored)}")
        if extra := sorted(set(stored) - set(state)):
            raise UsageError(f"the checkpoint of step {checkpoint.step} also holds {', '.join(extra)}; pass all of it")
        for name, piece in state.items():
            if isinstance(piece, MutableMapping):
                piece.clear()
                piece.update(stored[name])
            else:
                piece.load_state_dict(stored[name])
        self._streams.load_state_dict(checkpoint.book["streams"])

    # ---- the end -----------------------------------------------------------------------------------------------------

    def finish(self, result: Mapping[str, float]) -> None:
        """Declare the run done: `result` (numbers by name) goes to result.json, non-finite ones as they are.

        Raises RunError when it was finished with another result.
        """
        entry = {"format": RESULT_FORMAT, "metrics": to_json(numbers(result), "result")}
        path = self.directory / "result.json"
        self._records.sync()
        if path.exists() and json.loads(path.read_text(encoding="utf-8")) != entry:
            raise RunError(f"{path} holds another result; a run finishes once, so begin a new one")
        write_atomically(path, json.dumps(entry, indent=2).encode() + b"\n")

    @property
    def finished(self) -> bool:
        """Return whether the run is done, so that resuming it has nothing to do."""
        return (self.directory / "result.json").exists()

    @property
    def result(self) -> Mapping[str, float] | None:
        """Return the numbers of a finished run, else None. Raises UsageError for a format of another version."""
        return read_result(self.directory)


def read_result(directory: Path | str) -> Mapping[str, float] | None:
    """Return the numbers in result.json of a run, without locking it; None when it is not finished."""
    path = Path(directory) / "result.json"
    if not path.exists():
        return None
    stored = json.loads(read_file(path))
    if stored.get("format") != RESULT_FORMAT:
        raise UsageError(f"{path} has format {stored.get('format')!r}; this version of pilotage reads {RESULT_FORMAT}")
    return from_json(stored["metrics"])


def _has_no_step(directory: Path) -> bool:
    """Return whether a run ended before anything came out of it that would be missed."""
    expected = {"lock", "run.json", "metrics.json", "sources", *(f"{name}.jsonl" for name in FILES)}
    others = [path for path in directory.iterdir() if path.name not in expected]
    results = [directory / f"{name}.jsonl" for name in FILES if name != "events"]
    return not others and not any(path.exists() and path.stat().st_size for path in results)


def _remove_run(directory: Path) -> None:
    """Remove everything in a run's directory but its lock, run.json last, so that it remains a run until the end."""
    for path in sorted(directory.iterdir(), key=lambda path: path.name == "run.json"):
        if path.name != "lock":
            remove_directory(path)


def _locked(directory: Path) -> Lock:
    lock = Lock(directory / "lock")
    if not lock.take():
        own = " (this very process)" if lock.owner() == f"process {os.getpid()}" else ""
        raise UsageError(
            f"{directory} is in use by {lock.owner()}{own}; wait until it is done, stop it, or give another directory"
        )
    return lock
