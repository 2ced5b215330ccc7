"""The routes of the service, one module for each noun. Each checks a request, asks the loaded release and answers."""
