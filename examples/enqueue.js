#!/usr/bin/env node
// Enqueues the lines of a .jsonl plan with amqplib, and prints what becomes of each.
//   AMQP_URL=amqp://... node examples/enqueue.js < plan.jsonl
const amqp = require('amqplib'), { randomUUID } = require('node:crypto');
const lines = require('node:fs').readFileSync(0, 'utf8').split(/\r?\n/).filter((line) => line.trim());
const prefix = process.env.SLUICE_PREFIX ?? 'sluice';

(async () => {
  const connection = await amqp.connect(process.env.AMQP_URL);
  const channel = await connection.createConfirmChannel();
  // Without the queue the broker would confirm the message and drop it: mandatory makes it come back.
  channel.on('return', (message) => { throw new Error(`there is no queue ${message.fields.routingKey}`); });
  const { queue } = await channel.assertQueue('', { exclusive: true });
  await channel.bindQueue(queue, `${prefix}.results`, '#'); // before the first publish: no result is missed
  const waiting = new Set();
  for (const line of lines) {
    const messageId = randomUUID(), headers = { 'x-sluice-enqueued-at': new Date().toISOString() };
    waiting.add(messageId);
    channel.publish(`${prefix}.enqueue`, `${prefix}.requests`, Buffer.from(line), { persistent: true, mandatory: true, messageId, headers });
  }
  await channel.waitForConfirms();
  await channel.consume(queue, (message) => {
    const { data } = JSON.parse(message.content);
    if (waiting.delete(data.request_id)) console.log(data.source_server_id, data.outcome, data.task_id ?? '');
    if (waiting.size === 0) connection.close();
  }, { noAck: true });
})();
