//! Tests of this area on a real RabbitMQ.
