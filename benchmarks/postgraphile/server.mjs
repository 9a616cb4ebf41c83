// PostGraphile on the table of images, as one would serve it: read from DATABASE_URL, on PORT.

import { createServer } from "node:http";
import { postgraphile } from "postgraphile";
import { makePgService } from "postgraphile/adaptors/pg";
import { grafserv } from "postgraphile/grafserv/node";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import { pgSmartTags } from "postgraphile/utils";
import { PostGraphileConnectionFilterPreset } from "postgraphile-plugin-connection-filter";

const isImages = (table) => table.relname === "images";

// A small schema costs less memory.
const onlyImages = pgSmartTags([
  { kind: "class", match: (table) => !isImages(table), tags: { behavior: "-*" } },
  { kind: "class", match: isImages, tags: { behavior: "-insert -update -delete" } },
  { kind: "constraint", match: (one) => one.contype === "f", tags: { behavior: "-*" } },
  { kind: "procedure", match: () => true, tags: { behavior: "-*" } },
]);

const preset = {
  extends: [PostGraphileAmberPreset, PostGraphileConnectionFilterPreset],
  plugins: [onlyImages],
  // It hides the columns that are not the first of an index, as `place` and `origin`.
  disablePlugins: ["PgIndexBehaviorsPlugin"],
  pgServices: [
    makePgService({
      connectionString: process.env.DATABASE_URL,
      schemas: ["public"],
      poolConfig: { max: 10 },
      pubsub: false,
    }),
  ],
  grafserv: { graphiql: false, watch: false, websockets: false },
  grafast: { explain: false },
};

const instance = postgraphile(preset);
const server = createServer();
await instance.createServ(grafserv).addTo(server);
await instance.getSchema(); // who finds the port open, finds the schema ready
server.listen(Number(process.env.PORT), "127.0.0.1");
