"""What several callbacks need: result rows, files and costs."""
