import { test, setDefaultTimeout } from "bun:test";
import { sharedCluster } from "./support/cluster.ts";
import { startEngine, cut } from "./support/native.ts";
setDefaultTimeout(600000);
test("1000 migrations", async () => {
  const c = await sharedCluster();
  const e = await startEngine(c);
  const texts=Array.from({length:1000},(_, i)=>`CREATE TABLE t${i} (id serial primary key, name text not null default 'x');\nCREATE INDEX i${i} ON t${i}(name);`);
  const segs=await cut(texts);
  const times:Record<string,number>={};
  const s=e.session;
  for (const k of ["query","script"] as const){const f=(s as any)[k].bind(s);(s as any)[k]=async(t:string,o:any)=>{const a=performance.now();try{return await f(t,o)}finally{const key=k+":"+(/^\d+$/.test(o.during)?"script":o.during);times[key]=(times[key]??0)+performance.now()-a}}}
  let t=performance.now();
  const r = await e.applySegments(segs);
  console.log(r.kind, r.committed.length, performance.now()-t, times);
  const n=await c.createDatabase();
  t=performance.now();
  await c.psql(n, "BEGIN;"+texts.join("\n")+"COMMIT;");
  console.log("psql", performance.now()-t);
});
