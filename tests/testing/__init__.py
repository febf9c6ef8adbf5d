"""What thumbs ships for the tests of others: the receiver, the samples, the server, and the plugin."""
