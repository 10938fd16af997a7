"""What the calls of a run would cost, before any is paid for."""
