"""The built-in task and its small model; nothing a real project imports."""
