import { defineConfig } from 'vite';

// The result is committed: a checkout builds without node, and CI checks that it
// is what this makes.
export default defineConfig({
  base: './',
  esbuild: { jsx: 'automatic', jsxImportSource: 'preact' },
  build: {
    outDir: '../api/ui/dist',
    emptyOutDir: true,
    target: 'es2022',
    modulePreload: false,
    assetsInlineLimit: 0, // the content security policy allows no data: addresses
    rollupOptions: {
      output: { entryFileNames: 'app.js', chunkFileNames: '[name].js', assetFileNames: '[name][extname]' },
    },
  },
  server: { proxy: { '/api': 'http://127.0.0.1:8080' } },
});
