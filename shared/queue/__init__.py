"""RabbitMQ: its topology, jobs, the publisher, the consumer, the runner of a worker's jobs."""
