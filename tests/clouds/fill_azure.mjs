// Uploads a folder's files with Azure's own client: fill_azure.mjs CONNECTION CONTAINER PREFIX FOLDER
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { BlobServiceClient } from "@azure/storage-blob";

const [connection, name, prefix, folder] = process.argv.slice(2);
const container = BlobServiceClient.fromConnectionString(connection).getContainerClient(name);
await container.createIfNotExists();
for (const file of readdirSync(folder)) {
  await container.getBlockBlobClient(`${prefix}/${file}`).uploadData(readFileSync(join(folder, file)));
}
