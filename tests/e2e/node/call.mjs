// What both scripts share.  The first argument is the call to make, as JSON.  Every value goes out as one line of
// JSON, and so does an error.  The end of standard input means: leave.

export const call = JSON.parse(process.argv[2]);
export const leaving = new AbortController();

export function print(value) {
  process.stdout.write(JSON.stringify(value) + "\n");
}

// Runs the verb that was asked for; `describe` turns a library's error into its name, status and text.
export async function run(verbs, describe) {
  process.stdin.on("end", () => leaving.abort());
  process.stdin.resume();
  try {
    print({ value: (await verbs[call.verb]()) ?? null });
  } catch (error) {
    print({ error: { name: error.name, ...describe(error) } });
  }
  process.stdin.destroy();
}
