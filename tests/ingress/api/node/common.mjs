// Makes the calls that tests describe on standard input, one in a line, with the client that it is given; prints what
// came of each as a line.
import { createInterface } from "node:readline";

// asked: {url, link, headers?, options?, calls?: [[type, path, input?]…], script?, take?, wrapped?}
// answer: {failed: text} where the script failed, else {results: [{data} | {error}…], order: [place…], responses: [{status, headers}…], value}
// Of a subscription `data` are the items until it ends, or `take` of them. `wrapped`: the client has a transformer.
// What superjson makes of JSON's own types. Version 10 has it as an option of the client, version 11 of the link.
const transformer = { serialize: (given) => ({ json: given }), deserialize: (got) => got.json };

export async function main(tools) {
  for await (const line of createInterface({ input: process.stdin })) {
    const answer = await answered(JSON.parse(line), tools).catch((error) => ({ failed: error.stack }));
    console.log(JSON.stringify(answer));
  }
}

async function answered(asked, { createClient, createUntyped, links, closing }) {
  const responses = [];
  const fetching = async (url, options) => {
    const response = await fetch(url, options);
    responses.push({ status: response.status, headers: Object.fromEntries(response.headers) });
    return response;
  };
  const more = asked.wrapped ? { transformer } : {};
  const options = { url: asked.url, headers: asked.headers ?? {}, fetch: fetching, ...asked.options, ...more };
  const link = links(asked)(options);
  const answer = { results: [], order: [], responses };
  if (asked.script) {
    const run = new (async () => {}).constructor("trpc", asked.script);
    answer.value = await run(createClient({ links: [link] }));
  } else {
    const client = createUntyped({ links: [link], ...more });
    const one = async ([type, path, input], place) => {
      try {
        if (type === "subscription") return { data: await items(client, path, input, asked.take ?? Infinity) };
        return { data: await client[type](path, input) };
      } catch (error) {
        return { error: { name: error.name, message: error.message, shape: error.shape, data: error.data } };
      } finally {
        answer.order.push(place);
      }
    };
    answer.results = await Promise.all(asked.calls.map(one));
  }
  await closing();
  return answer;
}

function items(client, path, input, take) {
  return new Promise((resolve, reject) => {
    const seen = [];
    let subscription;
    subscription = client.subscription(path, input, {
      onData(item) {
        seen.push(item);
        if (seen.length < take) return;
        subscription.unsubscribe();
        resolve(seen);
      },
      onError(error) {
        subscription?.unsubscribe();
        reject(error);
      },
      onStopped: () => resolve(seen),
      onComplete: () => resolve(seen),
    });
  });
}
