# syntax=docker/dockerfile:1
# Sallyport in a container. The root file system may be read-only; what changes is in /data (the audit log) and /certs (the CA).

FROM node:22-bookworm AS build
WORKDIR /app
COPY package.json package-lock.json tsconfig.json tsconfig.build.json ./
COPY scripts ./scripts
COPY src ./src
# The full image has the compiler and Python that better-sqlite3 needs where its prebuilt add-on cannot be fetched.
RUN node scripts/build.mjs && npm prune --omit=dev --no-save --no-audit --no-fund
# Folders that the runtime user may write to; a named volume takes over their owner.
RUN mkdir -p /data /certs /trust && chmod 0700 /data /certs

FROM node:22-bookworm-slim
ENV NODE_ENV=production \
    SALLYPORT_DATA=/data \
    SALLYPORT_CA=/certs \
    SALLYPORT_LISTEN=0.0.0.0:8080 \
    SALLYPORT_ADMIN=127.0.0.1:9090
# The system's roots, by which origins are verified.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY policies ./policies
COPY --from=build --chown=10001:10001 /data /data
COPY --from=build --chown=10001:10001 /certs /certs
# Where compose.yaml has the bundle for clients written.
COPY --from=build --chown=10001:10001 /trust /trust
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
VOLUME ["/data", "/certs"]
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:9090/healthz',{signal:AbortSignal.timeout(2500)}).then(r=>process.exit(r.ok?0:1),()=>process.exit(1))"]
# Node is process 1: `start` handles SIGTERM and SIGINT itself, and waits for the children that it starts.
ENTRYPOINT ["node", "/app/dist/main.js"]
CMD ["start"]
