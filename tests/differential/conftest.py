from tests.differential.oracle import payloads, theirs

__all__ = ["payloads", "theirs"]
