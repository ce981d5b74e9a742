// The Worker with a METRICS binding that logs its data points.
import { env } from "cloudflare:workers";

env.METRICS = { writeDataPoint: (point) => console.log(JSON.stringify({ point })) };

export { default, UserObject } from "../../../worker/worker.mjs";
