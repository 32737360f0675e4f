"""Event files as TensorBoard reads them."""

import struct
from pathlib import Path

from tensorboardX.crc32c import crc32c
from tensorboardX.proto.event_pb2 import Event, SessionLog

from dtql_jax.training.logging import TensorBoardEvents


def events_of(path: Path) -> list[Event]:
    """The events of a file; an AssertionError where a record's checksums do not fit."""
    content, found = path.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        message, rest = content[12 : 12 + length], content[12 + length :]
        for part, given in ((content[:8], content[8:12]), (message, rest[:4])):
            # TFRecord's masked checksum, as TensorFlow's documentation defines it
            check = crc32c(part)
            masked = (((check >> 15) | (check << 17)) + 0xA282EAD8) & 0xFFFFFFFF
            assert struct.unpack("<I", given)[0] == masked
        found.append(Event.FromString(message))
        content = rest[4:]
    return found


def scalars(path: Path) -> list[tuple[str, float, int]]:
    return [(v.tag, v.simple_value, e.step) for e in events_of(path) for v in e.summary.value]


def test_scalars_are_written(tmp_path: Path) -> None:
    log = TensorBoardEvents(tmp_path / "tensorboard")
    log.add_scalar("train/critic_loss", 0.25, 1000)
    log.add_scalar("evaluation/score", -3.5, 2000)
    log.flush()
    (path,) = (tmp_path / "tensorboard").iterdir()
    assert path.name.startswith("events.out.tfevents.")
    assert events_of(path)[0].file_version == "brain.Event:2"
    assert scalars(path) == [("train/critic_loss", 0.25, 1000), ("evaluation/score", -3.5, 2000)]
    log.close()


def test_resuming_hides_later_events(tmp_path: Path) -> None:
    TensorBoardEvents(tmp_path).close()
    first = set(tmp_path.iterdir())
    TensorBoardEvents(tmp_path, resume_at=400).close()
    (second,) = set(tmp_path.iterdir()) - first
    starts = [e.step for e in events_of(second) if e.session_log.status == SessionLog.START]
    assert starts == [401]
