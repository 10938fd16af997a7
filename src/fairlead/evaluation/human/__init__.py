"""What people say of the compared answers: their labels, the judge anchored by them, and the blind review."""
