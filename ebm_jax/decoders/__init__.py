"""Ways to decode a frozen language model towards a reward, behind one interface (EBD and its peers)."""
