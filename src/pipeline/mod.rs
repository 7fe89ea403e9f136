//! journey, ledger, committer, permits.
