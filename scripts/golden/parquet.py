"""Records small Parquet files: texts, 64-bit labels, a null, and lists of messages, in two row groups, in every compression. Needs pyarrow."""
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

FOLDER = pathlib.Path(__file__).parents[2] / "test" / "golden" / "data"

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    table = pa.table({
        "text": pa.array(["one", "zwölf", None, "four"]),
        "label": pa.array([0, 1, 2, 3], pa.int64()),
        "messages": pa.array([[{"role": "user", "content": f"question {i}"}, {"role": "assistant", "content": f"answer {i}"}] for i in range(4)]),
    })
    for compression in ("snappy", "none", "gzip", "zstd", "brotli", "lz4"):
        pq.write_table(table, FOLDER / f"rows-{compression}.parquet", compression=compression, row_group_size=3, store_schema=False)
