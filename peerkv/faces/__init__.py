"""The faces that people see: the prompt, status, nodes started by hand. The commands themselves are in cli.py."""
