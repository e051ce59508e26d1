// Verifies deliveries with the npm package `standardwebhooks`: [{secret, body, headers}] comes in, and for each the
// parsed body or the name of the error goes out.
import { readFileSync } from "node:fs";
import { Webhook } from "standardwebhooks";

const asked = JSON.parse(readFileSync(0, "utf8"));
const found = asked.map(({ secret, body, headers }) => {
  try {
    return { verified: new Webhook(secret).verify(body, headers) };
  } catch (error) {
    return { error: error.constructor.name };
  }
});
process.stdout.write(JSON.stringify(found));
