"""Compare what the headers of audio files declare with what the files hold."""
