"""Keeps what is made from other things true: golden files, pictures, protos, the list of packages, the server bundle.

Run as `python -m upkeep.make_golden`; `install_server_bundle.py` is a file of its own, for a machine with Python alone.
"""
