// The Worker, whose objects log each request as it reaches them.
import worker, { UserObject as Base } from "../../../worker/worker.mjs";

export default worker;

export class UserObject extends Base {
  fetch(request) {
    console.log(JSON.stringify({ arrived: request.method, user: this.ctx.id.name }));
    return super.fetch(request);
  }
}
