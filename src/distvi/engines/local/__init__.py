"""Workers and servers as processes of one machine that share memory."""
