"""Benchmarks of this project: `make bench`, or `python -m benchmarks.NAME --help`.

Each benchmark writes JSON with the device, versions, commit and every repetition, a Markdown
table and a picture, by default into benchmarks/results/<device>/.
"""
