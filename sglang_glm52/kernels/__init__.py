"""Operations written for this model, one folder each; `inventory.py` lists them."""
