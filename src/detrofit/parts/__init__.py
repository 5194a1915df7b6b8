"""What can be swapped: slots, the registry of parts, and one file a part in the folder of its slot."""
