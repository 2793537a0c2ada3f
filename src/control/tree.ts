/** Where the program lies: the folder with bin/ and package.json, above src/control/ as well as above the bundle's dist/. */
export const TREE = new URL(import.meta.url.endsWith(".ts") ? "../../" : "../", import.meta.url);
