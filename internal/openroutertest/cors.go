package openroutertest

import "net/http"

// routeForPages mounts what a user's key may call so that pages of any origin may call
// it too, as OpenRouter does. The key management and the control surface are for no page.
func (s *Server) routeForPages(method, path string, h http.Handler) {
	s.mux.HandleFunc(method+" "+path, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		h.ServeHTTP(w, r)
	})
	s.mux.HandleFunc("OPTIONS "+path, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Access-Control-Allow-Methods", method)
		w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type, HTTP-Referer, X-Title")
		w.WriteHeader(http.StatusNoContent)
	})
}
