"""Measurements on a GPU. Only timer.py times; record.py makes the tables and the JSON line that ends every output."""
