#!/usr/bin/env node
// Moves requests that the worker's client library cannot read to the dead letters: those with a property or the name of
// a header that is not UTF-8. Everything else goes back. docs/runbook.md says when.
//   AMQP_URL=amqp://... node examples/rescue.js
const amqp = require('amqplib');
const prefix = process.env.SLUICE_PREFIX ?? 'sluice';
const reason = 'a property or the name of a header is not UTF-8: mend the program that published it, and replay';

// Bytes that are not UTF-8 are read as U+FFFD here. Values of headers may be anything; their names and the properties may not.
const isBroken = (text) => typeof text === 'string' && text.includes('\ufffd');
const names = (table) => Object.entries(table ?? {}).flatMap(([name, value]) =>
  [name, ...(value && typeof value === 'object' && !Buffer.isBuffer(value) ? names(value) : [])]);
const isUnreadable = ({ headers, ...properties }) => [...Object.values(properties), ...names(headers)].some(isBroken);

(async () => {
  const connection = await amqp.connect(process.env.AMQP_URL);
  const channel = await connection.createConfirmChannel();
  await channel.prefetch(65535); // what the worker holds at most
  const held = [];
  let moved = 0, moving = Promise.resolve(), latest = Date.now(), any = false;
  await channel.consume(`${prefix}.requests`, (message) => {
    latest = Date.now();
    any = true;
    if (!isUnreadable(message.properties)) return held.push(message);
    moving = moving.then(async () => {
      const headers = { 'x-sluice-outcome': 'invalid', 'x-sluice-reason': reason };
      channel.publish(`${prefix}.dead-letters`, '', message.content, { persistent: true, headers });
      await channel.waitForConfirms(); // only then is the request safe in its new place
      channel.ack(message);
      moved += 1;
    });
  });
  // A worker's session has the queue for moments; this one's turn comes when that ends.
  const patience = () => latest + (any ? 2000 : 60000) - Date.now();
  while (patience() > 0) await new Promise((done) => setTimeout(done, patience()));
  await moving;
  for (const message of held) channel.nack(message);
  await channel.prefetch(1); // answered when the broker has read all before it
  await new Promise((done) => setTimeout(done, 500));
  await channel.close();
  await connection.close();
  console.log(`${moved} moved to the dead letters, ${held.length} given back`);
  if (!any) { console.error('no request came within a minute: is the queue empty, or a worker active?'); process.exitCode = 1; }
})();
