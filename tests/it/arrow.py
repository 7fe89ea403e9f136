"""Arrow's own reader and writer of Parquet (pyarrow), for tables that tamis shall read and tables that it wrote.

arrow.py write IN.jsonl OUT.parquet COMPRESSION ROWS    rows of JSON as a table, so many to a group; integers, strings, structs and lists as they come
arrow.py read IN.parquet                                the schema on the first line, then each row as JSON
arrow.py peak COMMAND…                                  run it and print the most memory that it held, in KiB, on the last line
"""

import json
import resource
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq


def write(source, target, compression, rows):
    with open(source, encoding="utf-8") as lines:
        table = pa.Table.from_pylist([json.loads(line) for line in lines])
    if "tag" in table.column_names:
        table = table.set_column(table.column_names.index("tag"), "tag", table["tag"].dictionary_encode())
    if "blob" in table.column_names:
        table = table.set_column(table.column_names.index("blob"), "blob", table["blob"].cast(pa.binary()))
    pq.write_table(table, target, compression=compression, row_group_size=int(rows), data_page_version="2.0" if compression == "zstd" else "1.0")


def read(source):
    table = pq.read_table(source)
    print(json.dumps({field.name: str(field.type) for field in table.schema}))
    for row in table.to_pylist():
        print(json.dumps(row))


def peak(*command):
    code = subprocess.run(command, check=False).returncode
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    sys.exit(code)


{"write": write, "read": read, "peak": peak}[sys.argv[1]](*sys.argv[2:])
