"""What any engine of real processes needs: membership, requests, servers' redo log, time limits."""
