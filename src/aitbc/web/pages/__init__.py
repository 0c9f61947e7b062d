"""What each page shows, one file for each module and one for each of the kernel's own things."""
