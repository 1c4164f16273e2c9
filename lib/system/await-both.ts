/** Two works beside each other: nothing of one goes on behind the failure of the other. Throws what the first has thrown. */
export async function awaitBoth<A, B>(first: Promise<A>, second: Promise<B>): Promise<[A, B]> {
  await Promise.allSettled([first, second]);
  return [await first, await second];
}
