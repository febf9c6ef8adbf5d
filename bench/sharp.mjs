// sharp as a process: the protocol of bench/peers_python.py. `node bench/sharp.mjs FOLDER`, where FOLDER/node_modules has it.
import { readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'

const SIDE_PX = 100
const QUALITY = 80

const sharp = createRequire(`${process.argv[2]}/`)('sharp')
sharp.cache(false)
sharp.concurrency(1)

const bodies = new Map()

const read = (path) => {
  if (!bodies.has(path)) bodies.set(path, readFileSync(path))
  return bodies.get(path)
}

const render = (body, format) => {
  const image = sharp(body).rotate().resize(SIDE_PX, SIDE_PX, { fit: 'cover' })
  return format === 'png' ? image.png().toBuffer() : image.flatten({ background: '#ffffff' }).jpeg({ quality: QUALITY }).toBuffer()
}

const measure = async ({ path, format, times, result }) => {
  const body = read(path)
  const before = process.cpuUsage()
  let made = Buffer.alloc(0)
  for (let time = 0; time < times; time++) made = await render(body, format)
  const { user, system } = process.cpuUsage(before)
  if (result) writeFileSync(result, made)
  return (user + system) / 1000 / Math.max(1, times)
}

for await (const line of createInterface({ input: process.stdin })) {
  const answer = await measure(JSON.parse(line)).then((ms) => ({ cpu_ms: ms }), (error) => ({ error: error.message }))
  console.log(JSON.stringify(answer))
}
