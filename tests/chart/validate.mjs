// `node validate.mjs FOLDER < objects.json`: prints what the custom resources' own validators refuse, as a JSON list.
import { readFileSync } from "node:fs";

const load = (name) => import(`${process.argv[2]}/node_modules/@kubernetes-models/${name}/index.js`);
const models = {
  "keda.sh/v1alpha1": await load("keda/keda.sh/v1alpha1"),
  "monitoring.coreos.com/v1": await load("prometheus-operator/monitoring.coreos.com/v1"),
  "gateway.networking.k8s.io/v1": await load("gateway-api/gateway.networking.k8s.io/v1"),
};

const problems = [];
let seen = 0;
for (const object of JSON.parse(readFileSync(0))) {
  const model = models[object.apiVersion]?.[object.kind];
  if (!model) continue;
  seen += 1;
  try {
    new model(object).validate();
  } catch (error) {
    problems.push(`${object.kind}/${object.metadata.name}: ${error.message}`);
  }
}
console.log(JSON.stringify({ seen, problems }));
