"""Readers and writers of demonstrations in the formats that people have; `pilotage.data.sources` chooses among them."""
