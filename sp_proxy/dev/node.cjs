'use strict'
// Loaded before a Node.js application (`node --require`), where Node does not read the proxy variables by itself (before
// 22.21 and 24.0): connections of node:http, node:https and fetch go through the proxy, as CONNECT tunnels. Every Agent
// makes its connections in one method, so that is what is replaced; an application's own createConnection stays as it is.

const proxy = process.env.HTTPS_PROXY || process.env.HTTP_PROXY
const native = process.allowedNodeEnvironmentFlags.has('--use-env-proxy')

if (proxy && !native) {
  const http = require('node:http')
  const https = require('node:https')
  const net = require('node:net')
  const tls = require('node:tls')
  const { hostname, port } = new URL(proxy)

  const tunnel = (host, target, callback) => {
    const authority = `${net.isIPv6(host) ? `[${host}]` : host}:${target}`
    const socket = net.connect({ host: hostname, port: Number(port) })
    let head = Buffer.alloc(0)
    const done = (error) => {
      socket.removeListener('readable', read)
      socket.removeListener('error', done)
      socket.removeListener('end', ended)
      if (!error) return callback(null, socket)
      socket.destroy()
      callback(error)
    }
    const ended = () => done(new Error(`the proxy closed the connection to ${authority}`))
    const read = () => {
      for (let piece = socket.read(); piece !== null; piece = socket.read()) head = Buffer.concat([head, piece])
      const end = head.indexOf('\r\n\r\n')
      if (end < 0) return
      const status = head.toString('latin1', 0, head.indexOf('\r\n'))
      if (!/^HTTP\/1\.[01] 200/.test(status)) {
        return done(Object.assign(new Error(`the proxy answered ${status} for ${authority}`), { code: 'ECONNREFUSED' }))
      }
      if (head.length > end + 4) socket.unshift(head.subarray(end + 4))
      done(null)
    }
    socket.on('readable', read)
    socket.once('error', done)
    socket.once('end', ended)
    socket.once('connect', () => socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`))
  }

  const secure = (options, socket, callback) => {
    const secured = tls.connect({ ...options, socket, path: undefined })
    const failed = (error) => callback(error)
    secured.once('error', failed)
    secured.once('secureConnect', () => {
      secured.removeListener('error', failed)
      callback(null, secured)
    })
  }

  const plain = http.Agent.prototype.createConnection
  http.Agent.prototype.createConnection = function (options, callback) {
    if (options.socketPath || typeof callback !== 'function') return plain.call(this, options, callback)
    tunnel(options.host || 'localhost', options.port || 80, callback)
  }

  const secured = https.Agent.prototype.createConnection
  https.Agent.prototype.createConnection = function (options, callback) {
    if (options.socketPath || typeof callback !== 'function') return secured.call(this, options, callback)
    const host = options.host || 'localhost'
    const servername = options.servername ?? (net.isIP(host) ? '' : host)
    tunnel(host, options.port || 443, (error, socket) => {
      if (error) return callback(error)
      secure({ ...options, servername }, socket, callback)
    })
  }

  // fetch is undici, which hands out its Dispatcher by a registered symbol only, once it has been used or named.
  const key = Symbol.for('undici.globalDispatcher.1')
  if (typeof globalThis.fetch === 'function') {
    globalThis.fetch('data:,').catch(() => {})
    const Dispatcher = globalThis[key]?.constructor
    if (Dispatcher) {
      const connect = (options, callback) => {
        const safe = options.protocol === 'https:'
        tunnel(options.hostname.replace(/^\[|\]$/g, ''), options.port || (safe ? 443 : 80), (error, socket) => {
          if (error) return callback(error)
          if (!safe) return callback(null, socket)
          const host = options.hostname.replace(/^\[|\]$/g, '')
          const servername = options.servername || (net.isIP(host) ? '' : host)
          secure({ host, servername, ALPNProtocols: ['http/1.1'] }, socket, callback)
        })
      }
      globalThis[key] = new Dispatcher({ connect })
    }
  }
}
