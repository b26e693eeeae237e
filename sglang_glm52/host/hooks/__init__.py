"""One hook's code per file; each file has one public function, named like the file. The records are in ledger.py."""
