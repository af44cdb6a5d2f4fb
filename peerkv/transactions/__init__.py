"""Commands that take effect at one moment although their keys are in several slots (protocol rules L1 to G8)."""

from peerkv.transactions.coordination import Gathered, Job, Transactions, Work
from peerkv.transactions.settling import Settling

__all__ = ["Gathered", "Job", "Settling", "Transactions", "Work"]
