"""Records event files with the protobuf classes and record writer of the tensorboard package (2.21.0).

python scripts/golden/tensorboard_events.py > test/golden/report/events.json
"""

import base64
import io
import json

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter


class Sink(io.BytesIO):
    """Keeps its bytes when the writer closes it."""

    def close(self):
        pass


def recorded(events):
    sink = Sink()
    writer = RecordWriter(sink)
    for event in events:
        writer.write(event.SerializeToString())
    return base64.b64encode(sink.getvalue()).decode()


def scalars(time, step, values):
    parts = [summary_pb2.Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
    return event_pb2.Event(wall_time=time, step=step, summary=summary_pb2.Summary(value=parts))


NOW = 1700000000.25
START = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
ROWS = [
    {"step": 300, "values": {"train/loss": 2.5, "train/learning_rate": 2e-4}},
    {"step": 70000, "values": {"eval/loss": 0.1}},
]
print(json.dumps({
    "now": NOW,
    "rows": ROWS,
    "head": recorded([event_pb2.Event(wall_time=NOW, file_version="brain.Event:2")]),
    "restart": recorded([event_pb2.Event(wall_time=NOW, step=300, session_log=START)]),
    "scalars": [recorded([scalars(NOW, row["step"], row["values"])]) for row in ROWS],
}, indent=2))
