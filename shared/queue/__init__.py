"""RabbitMQ: the topology, the jobs, the publisher, the consumer, and the runner of a worker's jobs."""
