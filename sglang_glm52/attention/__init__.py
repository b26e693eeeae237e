"""What attention needs beside the host's backends."""
